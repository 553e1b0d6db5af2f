"""What a cluster has before its users come, beyond what the API server makes itself. Pure.

Pods resolve names at kube-dns (their /etc/resolv.conf says so): a Service like any other, before the
Deployment ``coredns``, as kubeadm makes them. A lab without DNS keeps the Service: without endpoints it
refuses at once, where an address nobody has would let every lookup run into its timeout.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.api.objects import Obj
from controller.api.wiring import CONTROL_PLANE, SERVICE_NET
from controller.dns.corefile import DEFAULT
from topo.images.coredns import BINARY

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

IMAGE = "registry.k8s.io/coredns/coredns:v1.12.0"
_LABELS = {"k8s-app": "kube-dns"}
COREDNS = ("kube-system", "coredns")
"""Namespace and name of the ServiceAccount, ConfigMap and Deployment."""
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_AFFINITY = {
    "nodeAffinity": {
        _PREFERRED: [
            {"weight": 1, "preference": {"matchExpressions": [{"key": CONTROL_PLANE, "operator": "Exists"}]}}
        ]
    },
    "podAntiAffinity": {
        _PREFERRED: [
            {
                "weight": 100,
                "podAffinityTerm": {
                    "labelSelector": {
                        "matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}]
                    },
                    "topologyKey": "kubernetes.io/hostname",
                },
            }
        ]
    },
}


def cluster_dns(which: str) -> Iterator[Obj]:
    """The objects of the cluster's DNS in the order of their creation; ``which`` as ClusterConfig.dns."""
    yield KUBE_DNS
    if which == "none":
        return
    yield _object("v1", "ServiceAccount")
    yield _object("v1", "ConfigMap") | {"data": {"Corefile": DEFAULT}}
    yield _deployment(IMAGE if which == "podwire" else f"{BINARY}:latest")


def _object(version: str, kind: str) -> Obj:
    namespace, name = COREDNS
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def _deployment(image: str) -> Obj:
    """One pod, and as kubeadm has it a second one elsewhere; the first on the control plane's node, so that
    every lab has it in the same place. It asks the API server for its ConfigMap, since a volume here keeps
    what it had at the start, and is asked every second until it has started, so that names are there soon."""
    container: Obj = {
        "name": "coredns",
        "image": image,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": 8080},
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
            "failureThreshold": 5,
        },
        "startupProbe": {
            "httpGet": {"path": "/ready", "port": 8181},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}},
    }
    made = _object("apps/v1", "Deployment")
    made["metadata"]["labels"] = {**_LABELS, "kubernetes.io/name": "CoreDNS"}
    made["spec"] = {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "selector": {"matchLabels": _LABELS},
        "template": {
            "metadata": {"labels": _LABELS},
            "spec": {
                "serviceAccountName": "coredns",
                "dnsPolicy": "Default",
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [
                    {"key": "CriticalAddonsOnly", "operator": "Exists"},
                    {"key": CONTROL_PLANE, "effect": "NoSchedule"},
                ],
                "affinity": _AFFINITY,
                "containers": [container],
            },
        },
    }
    return made
