"""Addresses, phases, conditions, container statuses, batches and progress: the kubelet without I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controller.api.objects import Obj
from topo.kubelet_batch import Batcher, Progress
from topo.kubelet_ipam import AddressesExhausted, Ipam
from topo.kubelet_spec import Place, container_of, pod_message, remarks, user_of
from topo.kubelet_status import ContainerRecord, phase, pod_status, qos_class, status_patch

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def pod(*names: str, inits: Sequence[str] = (), **spec: Any) -> Obj:
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "containers": [{"name": name, "image": "nginx"} for name in names or ("main",)],
            "initContainers": [{"name": name, "image": "busybox"} for name in inits],
            **spec,
        },
    }


def records(of: Obj) -> list[ContainerRecord]:
    spec = of["spec"]
    return [ContainerRecord(spec=c, init=True) for c in spec["initContainers"]] + [
        ContainerRecord(spec=c) for c in spec["containers"]
    ]


def status(of: Obj, of_records: Sequence[ContainerRecord], now: str = NOW) -> Obj:
    return pod_status(
        of, of_records, addresses=["10.244.1.2"], host_addresses=["192.168.49.2"], start_time=NOW, now=now
    )


def condition(of: Obj, kind: str) -> Obj:
    found: Obj = next(c for c in of["conditions"] if c["type"] == kind)
    return found


def test_addresses_are_given_in_turn_and_rest_until_the_range_wraps() -> None:
    ipam = Ipam(IPv4Network("10.244.1.0/29"))
    given = [ipam.allocate() for _ in range(3)]
    assert given == [IPv4Address(f"10.244.1.{n}") for n in (2, 3, 4)]
    ipam.release(given[0])
    assert [str(ipam.allocate()) for _ in range(3)] == ["10.244.1.5", "10.244.1.6", "10.244.1.2"]
    with pytest.raises(AddressesExhausted, match="no IP addresses available"):
        ipam.allocate()


def test_a_pod_is_pending_then_running_then_ready() -> None:
    web = pod()
    [main] = all_records = records(web)
    before = status(web, all_records)
    assert before["phase"] == "Pending"
    assert before["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    main.run("c1", NOW)
    started = status(web, all_records)
    assert (started["phase"], condition(started, "Ready")["status"]) == ("Running", "False")
    assert condition(started, "Ready")["message"] == "containers with unready status: [main]"
    main.ready = True
    assert condition(status(web, all_records), "Ready") == {
        "type": "Ready", "status": "True", "lastTransitionTime": NOW,
    }  # fmt: skip


def test_a_transition_time_moves_only_with_its_status() -> None:
    web = pod()
    [main] = all_records = records(web)
    main.run("c1", NOW)
    first = status(web, all_records)
    main.ready = True
    second = status({**web, "status": first}, all_records, LATER)
    assert condition(second, "Ready")["lastTransitionTime"] == LATER
    assert condition(second, "Initialized")["lastTransitionTime"] == NOW


def test_conditions_of_others_are_kept() -> None:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": NOW}
    made = status({**pod(), "status": {"conditions": [scheduled]}}, records(pod()))
    assert condition(made, "PodScheduled") == scheduled


def test_a_readiness_gate_holds_a_pod_back() -> None:
    web = pod(readinessGates=[{"conditionType": "example.com/ok"}])
    [main] = all_records = records(web)
    main.run("c1", NOW)
    main.ready = True
    assert condition(status(web, all_records), "Ready")["reason"] == "ReadinessGatesNotReady"
    passed = {**web, "status": {"conditions": [{"type": "example.com/ok", "status": "True"}]}}
    assert condition(status(passed, all_records), "Ready")["status"] == "True"


def test_a_restarting_container_keeps_its_last_state_and_the_pod_runs() -> None:
    web = pod()
    [main] = all_records = records(web)
    main.run("c1", NOW)
    main.end(3, "boom", LATER)
    main.wait("CrashLoopBackOff", "back-off 10s")
    made = status(web, all_records)
    assert made["phase"] == "Running"
    container = made["containerStatuses"][0]
    assert container["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert container["lastState"]["terminated"] == {
        "exitCode": 3, "reason": "Error", "message": "boom", "startedAt": NOW, "finishedAt": LATER,
        "containerID": "podwire://c1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "codes", "expected"),
    [
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 1), "Failed"),
        ("Never", (0, None), "Running"),
        ("OnFailure", (0, 0), "Succeeded"),
        ("OnFailure", (0, 1), "Running"),
        ("Always", (0, 0), "Running"),
    ],
)
def test_the_phase_follows_restart_policy_and_exit_codes(
    policy: str, codes: tuple[int | None, ...], expected: str
) -> None:
    both = pod("one", "two", restartPolicy=policy)
    all_records = records(both)
    for record, code in zip(all_records, codes, strict=True):
        record.run("c", NOW)
        if code is not None:
            record.end(code, "", NOW)
    assert phase(both, all_records) == expected


def test_back_off_doubles_up_to_its_limit_and_is_forgotten_after_a_steady_run() -> None:
    [main] = records(pod())

    def delay(started: str, ended: str) -> float:
        main.run("c", started)
        main.end(1, "", ended)
        return main.next_back_off(base=10, limit=35, steady=50)

    assert [delay(NOW, NOW) for _ in range(5)] == [0, 10, 20, 35, 35]
    assert [delay(NOW, LATER), delay(NOW, NOW)] == [0, 10]


def test_init_containers_hold_the_pod_in_pending() -> None:
    web = pod(inits=["first"])
    first, _ = all_records = records(web)
    assert condition(status(web, all_records), "Initialized")["reason"] == "ContainersNotInitialized"
    first.run("c1", NOW)
    first.end(1, "", NOW)
    assert phase(web, all_records) == "Pending"
    assert phase({**web, "spec": {**web["spec"], "restartPolicy": "Never"}}, all_records) == "Failed"
    first.run("c2", NOW)
    first.end(0, "", NOW)
    assert condition(status(web, all_records), "Initialized")["status"] == "True"
    assert status(web, all_records)["initContainerStatuses"][0]["ready"] is True


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
    ],
)
def test_the_qos_class(resources: Obj, expected: str) -> None:
    web = pod()
    web["spec"]["containers"][0]["resources"] = resources
    assert qos_class(web) == expected


def test_the_interface_goes_with_the_status_in_one_patch() -> None:
    patch = status_patch({"phase": "Running"}, "node1-p2")
    assert patch == {
        "status": {"phase": "Running"},
        "metadata": {"annotations": {"podwire.dev/interface": "node1-p2"}},
    }


def test_a_container_is_handed_over_with_everything_resolved() -> None:
    web = pod()
    spec = {
        "name": "main",
        "image": "busybox",
        "command": ["sh", "-c"],
        "args": ["echo $(GREETING)"],
        "env": [{"name": "GREETING", "value": "hello"}],
        "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 80}],
    }
    place = Place(
        node="node1", node_addresses=("192.168.49.2",), addresses=("10.244.1.2",), netns="/run/netns/web"
    )
    made = container_of(web, spec, "c1", place, [], lambda *at: None)
    assert made.argv == ("sh", "-c", "echo hello")
    assert made.args == ("echo hello",)
    assert [port.number for port in made.ports] == [80]
    assert made.env == {"HOSTNAME": "web", "GREETING": "hello"}
    assert type(made).from_json(made.to_json()) == made


def test_no_container_runs_as_root() -> None:
    web = pod()
    assert user_of(web, {"securityContext": {"runAsUser": 0}}) == 65534
    assert user_of(web, {"securityContext": {"runAsUser": 1000}}) == 1000
    assert user_of(pod(securityContext={"runAsUser": 1001}), {}) == 1001


def test_what_is_left_out_is_remarked_on() -> None:
    spec = {
        "name": "main",
        "image": "redis",
        "command": ["redis-server"],
        "volumeMounts": [{"name": "data"}],
        "livenessProbe": {"grpc": {"port": 1}},
        "securityContext": {"privileged": True},
    }
    reasons = [remark.reason for remark in remarks(pod(), spec)]
    assert reasons == ["StandIn", "CommandIgnored", "VolumesIgnored", "ProbeIgnored", "PrivilegesIgnored"]
    agnhost = {
        "name": "a",
        "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
        "command": ["/agnhost", "netexec"],
    }
    assert list(remarks(pod(), agnhost)) == []
    assert "echo stand-in" in pod_message(pod())


def test_what_is_asked_for_together_is_done_together() -> None:
    batches: list[list[int]] = []

    async def double(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        return [2 * item for item in items]

    async def main() -> list[int]:
        batcher: Batcher[int, int] = Batcher(double, limit=3)
        return await asyncio.gather(*(batcher.submit(n) for n in range(5)))

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]
    assert batches == [[0, 1, 2], [3, 4]]


def test_a_batch_that_fails_fails_for_each_who_asked() -> None:
    async def fail(items: Sequence[int]) -> list[int]:
        raise OSError("no")

    async def main() -> list[Any]:
        batcher: Batcher[int, int] = Batcher(fail)
        return await asyncio.gather(*(batcher.submit(n) for n in range(2)), return_exceptions=True)

    assert [str(error) for error in asyncio.run(main())] == ["no", "no"]


def test_progress_waits_for_the_oldest_open_work() -> None:
    told: list[int] = []
    progress = Progress(lambda: told.append(progress.reached))
    end = progress.begin(10)
    progress.saw(10)
    progress.saw(12)
    assert told == []
    other = progress.begin(15)
    progress.saw(15)
    end()
    end()
    assert told == [12]
    other()
    assert told == [12, 15]


def test_progress_is_told_again_when_the_server_forgot_it() -> None:
    told: list[int] = []
    progress = Progress(lambda: told.append(progress.reached))
    progress.saw(10)
    progress.saw(10)
    assert told == [10, 10]
