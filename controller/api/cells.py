"""What stands in the cells of ``kubectl get``, worked out as Kubernetes' printers do. Pure.

A cell that depends on the time answers a function of now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from controller.api.objects import Obj, selector_text

_NONE = "<none>"
Timed = Callable[[datetime], str]


def duration(age: timedelta) -> str:
    """As kubectl writes it: 42s, 5m3s, 3h10m, 2d4h, 30d, 2y10d."""
    seconds = int(age.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return f"{minutes}m{f'{seconds % 60}s' if seconds % 60 else ''}"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{f'{minutes % 60}m' if minutes % 60 else ''}"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{f'{hours % 24}h' if hours % 24 else ''}"
    if days < 365 * 2:
        return f"{days}d"
    return f"{days // 365}y{f'{days % 365}d' if days < 365 * 8 and days % 365 else ''}"


def _since(text: Any) -> Timed:
    def cell(now: datetime) -> str:
        return duration(now - datetime.fromisoformat(text)) if text else "<unknown>"

    return cell


def AGE(obj: Obj) -> Timed:  # noqa: N802 (it stands in tables as a constant)
    return _since(obj["metadata"].get("creationTimestamp"))


def LAST_SEEN(obj: Obj) -> Timed:  # noqa: N802
    series = obj.get("series") or {}
    return _since(series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("eventTime"))


def FIRST_SEEN(obj: Obj) -> Timed:  # noqa: N802
    return _since(obj.get("firstTimestamp") or obj.get("eventTime"))


def _few(words: Iterable[str], most: int = 3) -> str:
    found = [*words]
    more = f" + {len(found) - most} more..." if len(found) > most else ""
    return ",".join(found[:most]) + more if found else _NONE


def of(obj: Obj, have: str, want: str = "replicas") -> str:
    """READY as ``2/3``."""
    return f"{(obj.get('status') or {}).get(have, 0)}/{(obj.get('spec') or {}).get(want, 1)}"


# -- pods


def pod_ready(pod: Obj) -> str:
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    return f"{sum(bool(one.get('ready')) for one in states)}/{len(pod['spec'].get('containers') or ())}"


def pod_status(pod: Obj) -> str:
    status = pod.get("status") or {}
    shown = status.get("reason") or status.get("phase") or "Pending"
    for state in status.get("initContainerStatuses") or ():
        waiting = (state.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing"):
            shown = f"Init:{waiting['reason']}"
    running = False
    for state in reversed(status.get("containerStatuses") or ()):
        told = state.get("state") or {}
        waiting, ended = told.get("waiting") or {}, told.get("terminated") or {}
        if waiting.get("reason"):
            shown = waiting["reason"]
        elif ended:
            shown = ended.get("reason") or (
                f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"
            )
        elif state.get("ready") and told.get("running"):
            running = True
    if shown == "Completed" and running:
        shown = "Running"
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(shown)


def pod_restarts(pod: Obj) -> Any:
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    count = sum(one.get("restartCount", 0) for one in states)
    ends = [((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for one in states]
    last = max((end for end in ends if end), default=None)
    if not count or not last:
        return str(count)
    return lambda now: f"{count} ({duration(now - datetime.fromisoformat(last))} ago)"


def container_names(obj: Obj) -> str:
    return ",".join(one["name"] for one in obj["spec"]["template"]["spec"].get("containers") or ())


def images(obj: Obj) -> str:
    return ",".join(one.get("image", "") for one in obj["spec"]["template"]["spec"].get("containers") or ())


def selector(obj: Obj) -> str:
    return selector_text(obj["spec"].get("selector")) or _NONE


def node_selector(obj: Obj) -> str:
    return selector_text(obj["spec"]["template"]["spec"].get("nodeSelector")) or _NONE


def pod_selector(obj: Obj) -> str:
    return selector_text(obj["spec"].get("podSelector")) or _NONE


# -- Services and what is behind them


def plain_selector(service: Obj) -> str:
    return selector_text(service["spec"].get("selector")) or _NONE


def service_ports(service: Obj) -> str:
    found = []
    for port in service["spec"].get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        found.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(found) or _NONE


def load_balancer(obj: Obj) -> str:
    told = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(entry.get("ip") or entry.get("hostname", "") for entry in told)


def external_ip(service: Obj) -> str:
    spec = service["spec"]
    extra = ",".join(spec.get("externalIPs") or ())
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec.get("type") != "LoadBalancer":
        return extra or _NONE
    return ",".join(filter(None, (load_balancer(service), extra))) or "<pending>"


def _pair(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoints(obj: Obj) -> str:
    found = []
    for subset in obj.get("subsets") or ():
        addresses = [one["ip"] for one in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            found += addresses
        found += [_pair(address, port["port"]) for port in ports for address in addresses]
    return _few(found)


def slice_ports(obj: Obj) -> str:
    ports = obj.get("ports")
    if not ports:
        return "<unset>"
    return _few(str(port.get("port", port.get("name", "*"))) for port in ports)


def slice_endpoints(obj: Obj) -> str:
    found = [address for one in obj.get("endpoints") or () for address in one["addresses"]]
    return _few(found) if found else "<unset>"


def ingress_hosts(obj: Obj) -> str:
    found = [rule["host"] for rule in obj["spec"].get("rules") or () if rule.get("host")]
    return _few(found) if found else "*"


def ingress_ports(obj: Obj) -> str:
    return "80, 443" if obj["spec"].get("tls") else "80"


# -- nodes and the rest


def node_status(node: Obj) -> str:
    told = {one["type"]: one["status"] for one in (node.get("status") or {}).get("conditions") or ()}
    shown = {"True": "Ready", None: "Unknown"}.get(told.get("Ready"), "NotReady")
    return shown + (",SchedulingDisabled" if (node.get("spec") or {}).get("unschedulable") else "")


def node_roles(node: Obj) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return ",".join(sorted(word.removeprefix(prefix) for word in labels if word.startswith(prefix))) or _NONE


def node_address(type_: str) -> Callable[[Obj], str]:
    def cell(node: Obj) -> str:
        told = (node.get("status") or {}).get("addresses") or ()
        return next((str(one["address"]) for one in told if one["type"] == type_), _NONE)

    return cell


def access_modes(obj: Obj) -> str:
    return ",".join(
        "".join(filter(str.isupper, mode)).replace("ROM", "ROX").replace("RWM", "RWX")
        for mode in obj["spec"].get("accessModes") or ()
    )


def job_status(job: Obj) -> str:
    told = (job.get("status") or {}).get("conditions") or ()
    done = [one["type"] for one in told if one.get("status") == "True"]
    return done[0] if done else "Running"


def parent(obj: Obj) -> str:
    told = obj["spec"].get("parentRef") or {}
    words = [told.get("resource"), told.get("group"), told.get("namespace"), told.get("name")]
    resource = ".".join(word for word in words[:2] if word)
    return "/".join(word for word in (resource, *words[2:]) if word)


def controller(obj: Obj) -> str:
    owners: Iterable[Mapping[str, Any]] = obj["metadata"].get("ownerReferences") or ()
    found = (f"{one['kind'].lower()}.apps/{one['name']}" for one in owners if one.get("controller"))
    return next(found, _NONE)


def event_object(event: Obj) -> str:
    told = event.get("involvedObject") or {}
    return f"{told.get('kind', '').lower()}/{told.get('name', '')}"


def event_source(event: Obj) -> str:
    told = event.get("source") or {}
    words = [told.get("component") or event.get("reportingComponent"), told.get("host")]
    return ", ".join(word for word in words if word)
