"""kube-proxy as an OpenFlow pipeline: Services and endpoints in, flows and groups out."""
