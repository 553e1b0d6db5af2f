"""Pending pods -> nodes. One pod a pass; the next pass sees what this one chose.

Filters are Kubernetes' (selector, affinity, taints, cordon, host ports, number of pods), with its
words when nothing fits. The score is one rule, chosen so that a lesson can rely on it: the node that the
pod's preferred affinities weigh highest, then the one with the fewest pods of the same controller, then
the fewest pods, then the first by name. Resources are shown in this lab, not enforced.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from controller.api import objects
from controller.api.hostports import host_ports
from controller.api.objects import Obj
from controller.managers.pods import by_name
from controller.managers.times import stamp
from controller.managers.view import Bind, Change, Record, Ref, Update, View, is_finished, spread_group

COMPONENT = "default-scheduler"
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_NOT_READY = "node.kubernetes.io/not-ready"


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Bind one pod, or say why it cannot be bound."""
    pod = view.get(*ref)
    if pod is None or not is_waiting(pod):
        return []
    nodes = sorted(view.list("Node"), key=lambda node: _natural(objects.name(node)))
    refused = Counter[str]()
    fitting: list[Obj] = []
    for node in nodes:
        problem = _problem(view, pod, node)
        if problem:
            refused[problem] += 1
        else:
            fitting.append(node)
    if not fitting:
        return _unschedulable(view, pod, len(nodes), refused)
    group = spread_group(pod)

    def load(node: Mapping[str, Any]) -> tuple[int, int, int]:
        name = objects.name(node)
        same, all_ = view.index("Pod", "node and owner", f"{name}/{group}"), view.index("Pod", "node", name)
        return -_preference(view, pod, node), len(same), len(all_)

    chosen = objects.name(min(fitting, key=load))
    message = f"Successfully assigned {ref.namespace}/{ref.name} to {chosen}"
    return [
        Bind(_with_condition(view, pod, {"type": "PodScheduled", "status": "True"}), chosen),
        Record(involved=pod, reason="Scheduled", message=message, component=COMPONENT),
    ]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterator[Ref]:
    """A pod that waits; all that wait, when a node changes or a pod makes room."""
    if new is not None and new["kind"] == "Pod" and is_waiting(new):
        yield objects.key(new)
        return
    obj = new or old
    if obj is None or (obj["kind"] == "Node" and old and new and _offer(old) == _offer(new)):
        return
    if obj["kind"] == "Node" or (old is not None and (new is None or is_finished(new))):
        for pod in by_name(view.index("Pod", "node", "")):
            yield objects.key(pod)


def _offer(node: Obj) -> tuple[Any, ...]:
    """What the scheduler looks at on a node."""
    allocatable = objects.status(node).get("allocatable")
    return objects.labels(node), node["spec"], objects.is_ready(node), allocatable


def is_waiting(pod: Obj) -> bool:
    """A pod that is ours to place."""
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and spec.get("schedulerName", "default-scheduler") == "default-scheduler"
        and not objects.is_deleting(pod)
        and not is_finished(pod)
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """node2 before node10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _problem(view: View, pod: Obj, node: Obj) -> str:
    """Why a pod does not fit a node, in the scheduler's words; empty when it does."""
    wanted = list(host_ports(pod))
    if wanted:
        others = view.index("Pod", "node", objects.name(node))
        if any(port.collides(taken) for other in others for taken in host_ports(other) for port in wanted):
            return "node(s) didn't have free ports for the requested pod ports"
    if node["spec"].get("unschedulable") and not tolerations(
        pod, {"key": _UNSCHEDULABLE, "effect": "NoSchedule"}
    ):
        return "node(s) were unschedulable"
    problem = untolerated(pod, node)
    if problem:
        return problem
    if not selected(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    limit = (objects.status(node).get("allocatable") or {}).get("pods")
    if limit is not None and len(view.index("Pod", "node", objects.name(node))) >= int(limit):
        return "Too many pods"
    return ""


def untolerated(pod: Obj, node: Obj) -> str:
    """The taint that keeps a pod from a node, in the scheduler's words; empty when none does."""
    taints = [*(node["spec"].get("taints") or ())]
    ready = objects.condition(node, "Ready")
    if ready is not None and ready["status"] != "True":
        taints.append({"key": _NOT_READY, "effect": "NoSchedule"})
    for taint in taints:
        hard = taint["effect"] in ("NoSchedule", "NoExecute") and taint["key"] != _UNSCHEDULABLE
        if hard and not tolerations(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    return ""


def tolerations(pod: Obj, taint: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of a pod's tolerations that are for a taint."""
    found = []
    for toleration in pod["spec"].get("tolerations") or ():
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        key, exists = toleration.get("key"), toleration.get("operator", "Equal") == "Exists"
        same = key == taint["key"] and (exists or toleration.get("value", "") == taint.get("value", ""))
        if same or (not key and exists):
            found.append(toleration)
    return found


def selected(pod: Obj, node: Obj) -> bool:
    """Whether nodeSelector and required node affinity allow the node."""
    labels = objects.labels(node)
    if not (pod["spec"].get("nodeSelector") or {}).items() <= labels.items():
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_meets(term, node) for term in required.get("nodeSelectorTerms") or ())


def _meets(term: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether a node is what a term of a node affinity asks for; an empty term asks for none."""
    labels, fields = objects.labels(node), {"metadata.name": objects.name(node)}
    return (
        bool(term.get("matchExpressions") or term.get("matchFields"))
        and all(_holds(rule, labels) for rule in term.get("matchExpressions") or ())
        and all(_holds(rule, fields) for rule in term.get("matchFields") or ())
    )


def _preference(view: View, pod: Obj, node: Mapping[str, Any]) -> int:
    """What preferredDuringSchedulingIgnoredDuringExecution weighs for a node: its own labels, and the pods
    of the pod's namespace that are near it, for (podAffinity) and against it (podAntiAffinity)."""
    affinity = pod["spec"].get("affinity") or {}
    found = 0
    for wish in _preferred(affinity, "nodeAffinity"):
        found += wish["weight"] * _meets(wish["preference"], node)
    for word, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for wish in _preferred(affinity, word):
            found += sign * wish["weight"] * _near(view, pod, node, wish["podAffinityTerm"])
    return found


def _preferred(affinity: Mapping[str, Any], word: str) -> list[Mapping[str, Any]]:
    return (affinity.get(word) or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or []


def _near(view: View, pod: Obj, node: Mapping[str, Any], term: Mapping[str, Any]) -> int:
    """How many pods that a term selects run where the node's topologyKey has the same value."""
    place, selector = objects.labels(node).get(term["topologyKey"]), term.get("labelSelector")
    if place is None or selector is None:
        return 0
    names = (
        objects.name(other)
        for other in view.list("Node")
        if objects.labels(other).get(term["topologyKey"]) == place
    )
    return sum(
        objects.namespace(other) == objects.namespace(pod)
        and objects.matches(selector, objects.labels(other))
        for name in names
        for other in view.index("Pod", "node", name)
    )


def _holds(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if rule["operator"] in ("Gt", "Lt"):
        text = labels.get(rule["key"], "")
        if not text.lstrip("-").isdigit():
            return False
        number, limit = int(text), int(rule["values"][0])
        return number > limit if rule["operator"] == "Gt" else number < limit
    return objects.matches({"matchExpressions": [rule]}, labels)


def _unschedulable(view: View, pod: Obj, total: int, refused: Counter[str]) -> list[Change]:
    message = "no nodes available to schedule pods"
    if total:
        reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in refused.items()))
        message = f"0/{total} nodes are available: {reasons}."
    old = objects.condition(pod, "PodScheduled") or {}
    if (old.get("status"), old.get("message")) == ("False", message):
        return []
    wanted = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return [
        Update(_with_condition(view, pod, wanted), "status"),
        Record(involved=pod, reason="FailedScheduling", message=message, component=COMPONENT, type="Warning"),
    ]


def _with_condition(view: View, pod: Obj, wanted: Obj) -> Obj:
    status = objects.status(pod)
    others = [entry for entry in status.get("conditions") or () if entry["type"] != wanted["type"]]
    old = objects.condition(pod, wanted["type"]) or {}
    since = old.get("lastTransitionTime") if old.get("status") == wanted["status"] else None
    entry = {**wanted, "lastProbeTime": None, "lastTransitionTime": since or stamp(view.now)}
    return {**pod, "status": {**status, "conditions": [*others, entry]}}
