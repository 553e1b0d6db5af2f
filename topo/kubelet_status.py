"""What a pod's status says: phase, conditions, container statuses, QoS class. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controller.api.objects import Obj
from controller.api.wiring import INTERFACE

OWN_CONDITIONS = ("Initialized", "Ready", "ContainersReady")


@dataclass
class ContainerRecord:
    """One container of a pod as the kubelet knows it. ``state`` and ``last_state`` are Kubernetes' own."""

    spec: Obj
    init: bool = False
    image_id: str = ""
    id: str = ""
    state: Obj = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Obj = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    back_off: float = 0

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def sidecar(self) -> bool:
        """An init container that goes on running beside the others."""
        return self.init and self.spec.get("restartPolicy") == "Always"

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def done(self) -> bool:
        """An init container the next one need not wait for."""
        if self.sidecar:
            return self.started
        return int(self.state.get("terminated", {"exitCode": 1})["exitCode"]) == 0

    def wait(self, reason: str, message: str = "") -> None:
        if "terminated" in self.state:
            self.last_state = self.state
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        self.ready = self.started = False

    def run(self, container_id: str, now: str) -> None:
        if "terminated" in self.state:
            self.last_state = self.state
        self.id = container_id
        self.state = {"running": {"startedAt": now}}

    def end(self, code: int, message: str, now: str) -> None:
        started = self.state.get("running", {}).get("startedAt", now)
        self.state = {
            "terminated": {
                "exitCode": code,
                "reason": "Completed" if code == 0 else "Error",
                **({"message": message} if message else {}),
                "startedAt": started,
                "finishedAt": now,
                "containerID": f"podwire://{self.id}",
            }
        }
        self.ready = self.started = False

    def next_back_off(self, *, base: float, limit: float, steady: float) -> float:
        """Seconds until the ended container is started again: none the first time, then doubling.

        One that ran longer than ``steady`` begins anew.
        """
        ended = self.state["terminated"]
        ran = _seconds(ended["finishedAt"]) - _seconds(ended["startedAt"])
        delay = 0 if ran > steady else self.back_off
        self.back_off = min(max(base, 2 * delay), limit)
        return delay

    def to_status(self) -> Obj:
        done_init = self.init and not self.sidecar and self.done
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": self.image_id,
            "containerID": f"podwire://{self.id}" if self.id else "",
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.ready or done_init,
            "started": self.started,
            "restartCount": self.restarts,
        }


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort by requests and limits of cpu and memory."""
    guaranteed, any_set = True, False
    spec = pod["spec"]
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        resources = container.get("resources") or {}
        limits = {k: v for k, v in (resources.get("limits") or {}).items() if k in ("cpu", "memory")}
        requests = {k: v for k, v in (resources.get("requests") or {}).items() if k in ("cpu", "memory")}
        any_set = any_set or bool(limits or requests)
        if set(limits) != {"cpu", "memory"} or any(requests.get(k, v) != v for k, v in limits.items()):
            guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def restarts(pod: Obj, record: ContainerRecord, code: int) -> bool:
    """Whether a container that ended with ``code`` is started again."""
    policy = pod["spec"].get("restartPolicy") or "Always"
    if record.sidecar:
        return True
    if record.init:
        return code != 0 and policy != "Never"
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def phase(pod: Obj, records: Sequence[ContainerRecord]) -> str:
    main = [record for record in records if not record.init]
    setup = [record for record in records if record.init]
    failed = [r for r in setup if "terminated" in r.state and not r.done and not restarts(pod, r, 1)]
    if failed:
        return "Failed"
    if not all(record.done for record in setup):
        return "Pending"
    ended = [record for record in main if "terminated" in record.state]
    final = [r for r in ended if not restarts(pod, r, int(r.state["terminated"]["exitCode"]))]
    if len(final) == len(main):
        codes = [record.state["terminated"]["exitCode"] for record in final]
        return "Succeeded" if not any(codes) else "Failed"
    if any(record.running or record.last_state or "terminated" in record.state for record in main):
        return "Running"
    return "Pending"


def pod_status(
    pod: Obj,
    records: Sequence[ContainerRecord],
    *,
    addresses: Sequence[str],
    host_addresses: Sequence[str],
    start_time: str,
    now: str,
) -> Obj:
    """The whole of ``status`` as the kubelet writes it; foreign conditions are kept as they are."""
    main = [record for record in records if not record.init]
    setup = [record for record in records if record.init]
    current = phase(pod, records)
    status: Obj = {
        "phase": current,
        "conditions": conditions(pod, records, current, now),
        "hostIP": host_addresses[0],
        "hostIPs": [{"ip": address} for address in host_addresses],
        "startTime": start_time,
        "containerStatuses": [record.to_status() for record in main],
        "qosClass": qos_class(pod),
    }
    if addresses:
        status |= {"podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]}
    if setup:
        status["initContainerStatuses"] = [record.to_status() for record in setup]
    return status


def conditions(pod: Obj, records: Sequence[ContainerRecord], current: str, now: str) -> list[Obj]:
    before = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or []}
    unready = [r.name for r in records if not r.init and not r.ready]
    waiting = [r.name for r in records if r.init and not r.done]
    made = [_initialized(waiting, current)]
    if current in ("Succeeded", "Failed"):
        reason = {"reason": "PodCompleted" if current == "Succeeded" else "PodFailed"}
        ready = containers = {"status": "False", **reason}
    elif unready:
        text = f"containers with unready status: [{' '.join(unready)}]"
        ready = containers = {"status": "False", "reason": "ContainersNotReady", "message": text}
    else:
        containers = {"status": "True"}
        ready = _gates(pod, before.values())
    made += [{"type": "Ready", **ready}, {"type": "ContainersReady", **containers}]
    for condition in made:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old.get("lastTransitionTime", now) if same else now
    foreign = [c for c in before.values() if c["type"] not in OWN_CONDITIONS]
    return [*made, *foreign]


def _initialized(waiting: Sequence[str], current: str) -> Obj:
    if not waiting:
        return {"type": "Initialized", "status": "True"}
    text = f"containers with incomplete status: [{' '.join(waiting)}]"
    return {"type": "Initialized", "status": "False", "reason": "ContainersNotInitialized", "message": text}


def _gates(pod: Obj, existing: Iterable[Mapping[str, Any]]) -> Obj:
    held = {c["type"] for c in existing if c.get("status") == "True"}
    wanted = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    missing = [gate for gate in wanted if gate not in held]
    if not missing:
        return {"status": "True"}
    text = "; ".join(
        f'corresponding condition of pod readiness gate "{gate}" does not exist.' for gate in missing
    )
    return {"status": "False", "reason": "ReadinessGatesNotReady", "message": text}


def status_patch(status: Obj, interface: str) -> Obj:
    """One merge patch of the status subresource: status, and the bridge port in an annotation."""
    patch: Obj = {"status": status}
    if interface:
        patch["metadata"] = {"annotations": {INTERFACE: interface}}
    return patch
