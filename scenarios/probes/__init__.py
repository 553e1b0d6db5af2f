"""Probes that send packets and look at what comes back."""
