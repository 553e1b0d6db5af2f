"""A pod's own files: resolv.conf, hosts, hostname, its service account's; and its host name. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.objects import Obj

CLUSTER_DNS = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"
MAX_NAMESERVERS = 3
_HOSTS_HEADER = "# Kubernetes-managed hosts file.\n"
_HOSTS_HEADER_HOST = "# Kubernetes-managed hosts file (host network).\n"
_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def hostname(pod: Obj, node: str) -> str:
    """``spec.hostname``, else the pod's name cut to 63 characters; the node's on the host network."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        return node
    return str(spec.get("hostname") or pod["metadata"]["name"][:63].rstrip("-."))


def fqdn(pod: Obj, node: str) -> str:
    """The full name of a pod with a subdomain, else ""."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain or pod["spec"].get("hostNetwork"):
        return ""
    return f"{hostname(pod, node)}.{subdomain}.{pod['metadata']['namespace']}.svc.{CLUSTER_DOMAIN}"


def resolv_conf(pod: Obj, machine: str) -> str:
    """What dnsPolicy and dnsConfig ask for; ``machine`` is the text a node's own programs would read."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    nameservers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        namespace = pod["metadata"]["namespace"]
        nameservers = [CLUSTER_DNS]
        searches = [f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN]
        options = {"ndots": "5"}
    elif policy == "Default":
        nameservers, searches, options = _parse(machine)
    config: Mapping[str, Any] = spec.get("dnsConfig") or {}
    nameservers = _unique([*nameservers, *config.get("nameservers", [])])[:MAX_NAMESERVERS]
    searches = _unique([*searches, *config.get("searches", [])])
    options |= {option["name"]: str(option.get("value") or "") for option in config.get("options", [])}
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in nameservers]
    if options:
        words = (name + (f":{value}" if value else "") for name, value in options.items())
        lines.append(f"options {' '.join(words)}")
    return "".join(line + "\n" for line in lines)


def _parse(text: str) -> tuple[list[str], list[str], dict[str, str]]:
    nameservers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["nameserver"]:
            nameservers += words[1:2]
        elif words[:1] in (["search"], ["domain"]):
            searches = words[1:]
        elif words[:1] == ["options"]:
            options |= {name: value for name, _, value in (word.partition(":") for word in words[1:])}
    return nameservers, searches, options


def _unique(words: list[str]) -> list[str]:
    return list(dict.fromkeys(words))


def hosts(pod: Obj, addresses: Sequence[str], node: str) -> str:
    """The Kubernetes-managed text, with the pod's own lines (one an address) and its hostAliases."""
    lines = _HOSTS_HEADER_HOST if pod["spec"].get("hostNetwork") else _HOSTS_HEADER
    lines += _LOCAL
    if not pod["spec"].get("hostNetwork"):
        full, short = fqdn(pod, node), hostname(pod, node)
        for address in addresses:
            lines += f"{address}\t{full}\t{short}\n" if full else f"{address}\t{short}\n"
    aliases = pod["spec"].get("hostAliases") or []
    if aliases:
        lines += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            lines += "\t".join([alias["ip"], *alias.get("hostnames", [])]) + "\n"
    return lines


SERVICE_ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds who it is; /var/run is a link to /run."""


def files(
    pod: Obj,
    *,
    addresses: Sequence[str],
    node: str,
    machine_resolv_conf: str,
    credentials: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All of them by path; ``credentials`` are those of the service account, by name."""
    return {
        "/etc/resolv.conf": resolv_conf(pod, machine_resolv_conf),
        "/etc/hosts": hosts(pod, addresses, node),
        "/etc/hostname": hostname(pod, node) + "\n",
        **{f"{SERVICE_ACCOUNT}/{name}": text for name, text in (credentials or {}).items()},
    }
