"""The cluster's DNS server: what CoreDNS with its kubernetes plugin is to a real cluster."""
