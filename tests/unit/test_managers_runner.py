"""The runner: to the fixed point, once, with progress told only then; restarts change nothing."""

from __future__ import annotations

import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.api import objects
from controller.api.errors import Conflict
from controller.api.objects import Obj
from controller.managers.loops import LOOPS, Loop
from controller.managers.runner import Runner
from controller.managers.view import Ref, View
from controller.managers.work import Work
from tests.unit.managers_kit import Cluster, deployment, pod, service

FRESH = {"metadata": {"uid": None}}
REF = Ref("Service", "default", "web")


def test_a_cluster_at_rest_stays_at_rest_when_the_managers_start_again() -> None:
    cluster = Cluster().apply(deployment("web"), service("web", FRESH)).ready()
    version = cluster.store.newest
    cluster.managers.stop()
    cluster.managers = cluster.new_managers()
    assert cluster.settle().store.newest == version


def test_what_happened_while_the_managers_were_away_is_made_up_for() -> None:
    cluster = Cluster().apply(deployment("web"), service("web", FRESH)).ready()
    cluster.managers.stop()
    cluster.registry.patch("Deployment", "default", "web", {"spec": {"replicas": 3}})
    cluster.registry.delete("Pod", "default", cluster.names("Pod")[0], grace=0)
    cluster.managers = cluster.new_managers()
    cluster.settle().ready()
    assert len(cluster.list("Pod")) == 3
    assert len(cluster.list("EndpointSlice")[0]["endpoints"]) == 3


def test_progress_is_told_only_when_its_own_writes_are_handled_too() -> None:
    cluster = Cluster()
    told: list[int] = []
    rested = threading.Event()

    def progress(version: int) -> None:
        told.append(version)
        if version >= goal[0]:
            rested.set()

    goal = [1 << 60]
    runner = Runner(cluster.registry, progress)
    with cluster.store.lock:
        runner.start()
        cluster.registry.create(deployment("web", {"spec": {"replicas": 20}}))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with cluster.store.lock:
            goal[0] = cluster.store.newest
        if told and told[-1] >= goal[0] and len(cluster.list("Pod")) == 20:
            break
        rested.wait(0.05)
        rested.clear()
    runner.stop()
    assert told[-1] == cluster.store.newest
    assert told == sorted(set(told))
    assert all(one["spec"].get("nodeName") for one in cluster.list("Pod"))


def test_a_conflict_makes_the_loop_look_again() -> None:
    cluster = Cluster().apply(pod("web-0", FRESH), service("web", FRESH)).ready()
    update, refused = cluster.registry.update, [2]

    def sometimes(obj: Obj, **more: object) -> Obj:
        if obj["kind"] == "EndpointSlice" and refused[0]:
            refused[0] -= 1
            raise Conflict("somebody was faster")
        return update(obj, **more)  # type: ignore[arg-type]

    cluster.registry.update = sometimes  # type: ignore[method-assign]
    cluster.ready("web-0", ready=False)
    (endpoint,) = cluster.list("EndpointSlice")[0]["endpoints"]
    assert refused == [0]
    assert not endpoint["conditions"]["ready"]


def test_many_changes_before_a_look_cost_one_look() -> None:
    looks: list[Ref] = []

    def look(view: View, ref: Ref) -> list[object]:
        looks.append(ref)
        return []

    loop = Loop(name="counting", reconcile=look, refs=lambda view, old, new: [REF])  # type: ignore[arg-type]
    work, view = Work([loop]), View()
    for _ in range(5):
        work.changed(view, None, pod())
    task = work.take(0.0)
    assert task is not None
    assert task.ref == REF
    assert work.take(0.0) is None
    assert work.idle


def test_a_costly_key_rests_and_is_not_forgotten() -> None:
    work = Work([LOOPS[0]])
    work.mark(LOOPS[0], [REF])
    task = work.take(0.0)
    assert task is not None
    work.done(task, 1.0, 0.010)
    work.mark(LOOPS[0], [REF])
    assert work.take(1.02) is None
    assert not work.idle
    assert (work.next_time() or 0) > 1.03
    work.mark(LOOPS[0], [REF])
    assert work.take(1.05) == task
    assert work.take(1.05) is None
    assert work.idle


def test_waiting_for_a_time_is_no_unfinished_work() -> None:
    work = Work([LOOPS[0]])
    work.mark(LOOPS[0], [REF])
    task = work.take(0.0)
    assert task is not None
    work.wake(task, 5.0)
    work.wake(task, 5.0)
    assert work.idle
    assert work.take(4.9) is None
    assert work.take(5.0) == task
    assert work.take(5.0) is None


def test_events_of_one_kind_are_counted_and_floods_are_combined() -> None:
    cluster = Cluster().apply(deployment("web", {"spec": {"replicas": 60}}))
    created = cluster.events("SuccessfulCreate")
    combined = [message for message in created if message.startswith("(combined from similar events): ")]
    assert len(created) == 11
    assert len(combined) == 1
    assert len(cluster.events("Scheduled")) == 60


def test_every_loop_watches_kinds_that_exist() -> None:
    assert {kind for loop in LOOPS for kind in loop.kinds} <= set(objects.KINDS)


ACTIONS = st.sampled_from(
    ["scale", "ready", "unready", "delete", "force", "reap", "image", "relabel", "restart"]
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(ACTIONS, st.integers(0, 7)), max_size=12))
def test_any_history_comes_to_rest_with_the_right_pods_and_endpoints(history: list[tuple[str, int]]) -> None:
    cluster = Cluster(nodes=2).apply(deployment("web"), service("web", FRESH))
    wanted = 2
    for action, number in history:
        names = cluster.names("Pod")
        name = names[number % len(names)] if names else ""
        if action == "scale":
            wanted = number
            cluster.patch("Deployment", "web", {"spec": {"replicas": wanted}})
        elif action in ("ready", "unready") and name:
            cluster.ready(name, ready=action == "ready")
        elif action in ("delete", "force") and name:
            cluster.delete("Pod", name, grace=0 if action == "force" else None)
        elif action == "reap":
            cluster.reap()
        elif action == "image":
            container = {"name": "main", "image": f"agnhost:{number}"}
            cluster.patch("Deployment", "web", {"spec": {"template": {"spec": {"containers": [container]}}}})
        elif action == "relabel" and name:
            cluster.patch("Pod", name, {"metadata": {"labels": {"app": "debug"}}})
        elif action == "restart":
            cluster.managers.stop()
            cluster.managers = cluster.new_managers()
            cluster.settle()
    cluster.roll(passes=60)
    serving = [one for one in cluster.pods() if objects.labels(one)["app"] == "web"]
    image = cluster.get("Deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert len(serving) == wanted
    assert {one["spec"]["containers"][0]["image"] for one in serving} <= {image}
    found = [endpoint for one in cluster.list("EndpointSlice") for endpoint in one["endpoints"]]
    assert sorted(one["targetRef"]["name"] for one in found) == sorted(objects.name(one) for one in serving)
    assert all(one["conditions"]["ready"] for one in found)
