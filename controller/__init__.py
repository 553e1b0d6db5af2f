"""The control plane: API server, managers, kubeproxy."""
