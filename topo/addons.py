"""What a cluster has before its users come, beyond what the API server makes itself. Pure.

Pods resolve names at kube-dns (their /etc/resolv.conf says so). Nothing answers there yet, and a Service
without endpoints refuses at once, where an address nobody has would let every lookup run into its timeout.
"""

from __future__ import annotations

from controller.api.objects import Obj
from controller.api.wiring import SERVICE_NET

CLUSTER_DNS = SERVICE_NET[10]

KUBE_DNS: Obj = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "kube-dns",
        "namespace": "kube-system",
        "labels": {
            "k8s-app": "kube-dns",
            "kubernetes.io/cluster-service": "true",
            "kubernetes.io/name": "CoreDNS",
        },
    },
    "spec": {
        "clusterIP": str(CLUSTER_DNS),
        "selector": {"k8s-app": "kube-dns"},
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
        ],
    },
}
