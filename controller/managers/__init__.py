"""The control loops of kube-controller-manager that Services need, each a pure reconcile."""
