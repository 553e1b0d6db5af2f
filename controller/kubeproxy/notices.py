"""Tells people, by Events, what the kubeproxy cannot do as it is written: a scheduler, a weight, SCTP.

``complaint`` is pure; ``Notices`` sends Events from a thread of its own, because the server may be slow or
away. What is known and only done differently (a session's timeout, say) is no Event: it is documented.
"""

from __future__ import annotations

import contextlib
import logging
import platform
from pathlib import Path
from typing import Any, Protocol

from controller.api import wiring
from controller.api.errors import PodwireError
from controller.kubeproxy import hub
from controller.kubeproxy.schedulers import read_scheduler, read_weight

LOG = logging.getLogger("kubeproxy")
Obj = dict[str, Any]


class Recorder(Protocol):
    def event(
        self, involved: Obj, reason: str, message: str, *, type: str = "Normal", component: str
    ) -> None: ...


def kernel_has_sctp(root: Path = Path("/")) -> bool:
    """Whether this kernel has SCTP or could load it. Asked without a socket, which would load it."""
    with contextlib.suppress(OSError):
        if "SCTP" in (root / "proc/net/protocols").read_text():
            return True
    modules = root / "lib/modules" / platform.release()
    with contextlib.suppress(OSError):
        return any("/sctp.ko" in (modules / name).read_text() for name in ("modules.dep", "modules.builtin"))
    return False


def complaint(obj: Obj, *, sctp: bool = True) -> tuple[str, str] | None:
    """(reason, sentence) when an annotation of ours says what nobody knows, or nobody here can serve a port.

    ``sctp``: whether the kernel has it.
    """
    annotations = obj["metadata"].get("annotations") or {}
    match obj["kind"]:
        case "Service":
            ports = [
                str(p["port"])
                for p in (obj.get("spec") or {}).get("ports") or ()
                if p.get("protocol") == "SCTP"
            ]
            if ports and not sctp:
                named = f"port{'s' * (len(ports) > 1)} {', '.join(ports)}"
                return "SCTPNotSupported", f"{named}: this kernel has no SCTP, so no pod can listen to it"
            reason, key = "UnknownScheduler", wiring.SCHEDULER
            wrong = read_scheduler(annotations.get(key))[1]
        case "Pod":
            reason, key = "InvalidWeight", wiring.WEIGHT
            wrong = read_weight(annotations.get(key))[1]
        case _:
            return None
    return (reason, f"annotation {key}: {wrong}") if wrong else None


class Notices:
    """``apply`` from any thread; ``run`` is the thread that tells."""

    def __init__(self, client: Recorder, *, sctp: bool | None = None) -> None:
        self._client, self._sctp = client, kernel_has_sctp() if sctp is None else sctp
        self._inbox = hub.Queue()
        self._told: dict[tuple[str, str, str], str] = {}

    def apply(self, type: str, obj: Obj) -> None:
        """One watch event; the same complaint about the same object is told once."""
        metadata = obj["metadata"]
        key = obj["kind"], metadata.get("namespace", ""), metadata["name"]
        found = None if type == "DELETED" else complaint(obj, sctp=self._sctp)
        if found is None:
            self._told.pop(key, None)
        elif self._told.get(key) != found[1]:
            self._told[key] = found[1]
            self._inbox.put((obj, *found))

    def run(self) -> None:
        """For ever."""
        while True:
            self.tell(*self._inbox.get())

    def tell(self, obj: Obj, reason: str, sentence: str) -> None:
        metadata = obj["metadata"]
        LOG.warning("%s %s: %s", obj["kind"], metadata["name"], sentence)
        try:
            self._client.event(obj, reason, sentence, type="Warning", component="kube-proxy")
        except (OSError, PodwireError) as error:
            LOG.warning("cannot record that as an Event: %s", error)
