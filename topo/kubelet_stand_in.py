"""What is done so that a manifest with images podwire does not have comes up all the same. Pure.

The echo stand-in has none of an image's programs, no TLS and no files. So a probe that needs one of these
is not asked, the ports that probes and Services expect are listened on, and a failed init container whose
failure is podwire's own does not hold its pod back. Each is told in an Event: see ``kubelet_spec.remarks``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controller.api.objects import Obj, matches
from topo.images.image import Port
from topo.images.table import find

_PROBES = ("startup", "liveness", "readiness")
_NO_PROGRAM = (126, 127, 128)
"""Exit codes of a shell, and of the runtime, when there is no such program."""


def unasked(container: Obj, kind: str) -> str:
    """Why a container's ``startup``, ``liveness`` or ``readiness`` probe is not asked; else nothing."""
    probe = container.get(f"{kind}Probe") or {}
    if "grpc" in probe:
        return f"podwire asks no gRPC {kind} probe"
    if not find(container["image"]).stand_in:
        return ""
    if "exec" in probe:
        return f"the stand-in has not the program of the {kind} probe"
    if (probe.get("httpGet") or {}).get("scheme", "").upper() == "HTTPS":
        return f"the stand-in has no certificate for the HTTPS {kind} probe"
    return ""


def more_ports(pod: Obj, container: Obj, services: Iterable[Obj]) -> Iterator[Port]:
    """Where a stand-in listens beside its containerPorts: containerPorts are only information, and an image
    listens where its own program does. Its probes know, and for the pod's first container its Services."""
    if not find(container["image"]).stand_in:
        return
    for kind in _PROBES:
        probe = container.get(f"{kind}Probe") or {}
        for handler in ("httpGet", "tcpSocket"):
            yield from _number((probe.get(handler) or {}).get("port"))
    if container["name"] != pod["spec"]["containers"][0]["name"]:
        return
    declared = {p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or ()}
    metadata = pod["metadata"]
    for service in services:
        spec = service["spec"]
        if service["metadata"]["namespace"] != metadata["namespace"] or not spec.get("selector"):
            continue
        if matches(spec["selector"], metadata.get("labels")):
            for port in spec.get("ports") or ():
                for made in _number(port.get("targetPort", port["port"]), port.get("protocol") or "TCP"):
                    if made.number not in declared:
                        yield made


def _number(port: int | str | None, protocol: str = "TCP") -> Iterator[Port]:
    if port is not None and str(port).isdigit():
        yield Port(number=int(port), protocol=protocol)


def excused(container: Obj, code: int) -> str:
    """Why an init container's failure is podwire's own; else nothing."""
    context = container.get("securityContext") or {}
    if code in _NO_PROGRAM:
        return "podwire has not its program"
    if container.get("volumeMounts"):
        return "its volumes may hold less here"
    if (
        context.get("runAsUser") == 0
        or context.get("privileged")
        or context.get("capabilities", {}).get("add")
    ):
        return "podwire grants no root"
    return ""
