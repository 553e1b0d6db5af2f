"""Pods through the API: what the kubelet makes of them, and what it reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.kubelet_kit import NODE, Cluster, condition, main_status, one_node
from topo.kubelet_machine import Pace


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with one_node(tmp_path_factory.mktemp("run"), pace=Pace(back_off=0.2, retry=0.1)) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    for pod in cluster.client.list("Pod")[0]:
        cluster.client.delete("Pod", pod["metadata"]["name"], grace=0)
    cluster.settle()
    assert not cluster.wires.plugged
    assert not cluster.runtime.client.containers()


def test_a_pod_is_running_and_ready_when_the_lab_has_settled(cluster: Cluster) -> None:
    cluster.run("web")
    cluster.settle()
    pod = cluster.pod("web")
    status = pod["status"]
    assert status["phase"] == "Running"
    assert status["podIP"].startswith("10.244.1.")
    assert status["podIPs"] == [{"ip": status["podIP"]}]
    assert status["hostIP"] == str(NODE)
    assert [condition(pod, kind) for kind in ("Initialized", "Ready", "ContainersReady")] == ["True"] * 3
    last = status["podIP"].rpartition(".")[2]
    assert pod["metadata"]["annotations"]["podwire.dev/interface"] == f"node1-p{last}"
    container = main_status(pod)
    assert (container["ready"], container["started"], container["restartCount"]) == (True, True, 0)
    assert cluster.inside("web", f"curl -s http://{status['podIP']}/").returncode == 0


def test_the_stand_in_says_so(cluster: Cluster) -> None:
    cluster.run("unknown", "nginx:1.27")
    cluster.settle()
    pod = cluster.pod("unknown")
    assert "no program for image nginx:1.27" in cluster.events("unknown")["StandIn"]
    assert "echo stand-in" in pod["status"]["message"]
    assert main_status(pod)["imageID"] == "podwire://echo"


def test_a_container_that_ends_is_started_again_with_growing_back_off(cluster: Cluster) -> None:
    cluster.run("crash", "busybox", container={"command": ["sh", "-c", "exit 3"]})
    pod = cluster.when(
        "crash",
        lambda pod: (
            main_status(pod).get("restartCount", 0) >= 2
            and main_status(pod)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
        ),
    )
    status = main_status(pod)
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert "back-off 0.4s restarting failed container=main" in status["state"]["waiting"]["message"]
    assert condition(pod, "Ready") == "False"
    assert "Back-off restarting failed container main" in cluster.event("crash", "BackOff")


def test_a_pod_that_is_to_run_once_succeeds_or_fails(cluster: Cluster) -> None:
    for name, command, phase in (("good", "exit 0", "Succeeded"), ("bad", "exit 4", "Failed")):
        cluster.run(name, "busybox", container={"command": ["sh", "-c", command]}, restartPolicy="Never")
        pod = cluster.when(name, lambda pod, phase=phase: pod["status"]["phase"] == phase)
        assert main_status(pod)["state"]["terminated"]["exitCode"] == int(command[-1])


def test_a_port_taken_by_another_container_of_the_pod_is_a_crash_with_its_reason(cluster: Cluster) -> None:
    both = [{"name": n, "image": "nginx", "ports": [{"containerPort": 80}]} for n in ("one", "two")]
    cluster.run("pair", containers=both)

    def crashes(pod: dict) -> bool:  # type: ignore[type-arg]
        ends = [s["lastState"].get("terminated", {}) for s in pod["status"].get("containerStatuses", [])]
        return any("bind: address already in use" in end.get("message", "") for end in ends)

    assert condition(cluster.when("pair", crashes), "Ready") == "False"


def test_a_readiness_probe_comes_from_the_node_and_decides(cluster: Cluster) -> None:
    probe = {"httpGet": {"path": "/readiness", "port": 5000}, "periodSeconds": 1}
    cluster.run("ok", "seblum/mlops-public:backend-flask", ports=[5000], container={"readinessProbe": probe})
    cluster.when("ok", lambda pod: condition(pod, "Ready") == "True")
    probe = {"httpGet": {"path": "/no-such-page", "port": 5000}, "periodSeconds": 1}
    cluster.run("ko", "seblum/mlops-public:backend-flask", ports=[5000], container={"readinessProbe": probe})
    cluster.settle()
    assert (
        cluster.event("ko", "Unhealthy") == "Readiness probe failed: HTTP probe failed with statuscode: 404"
    )
    pod = cluster.pod("ko")
    assert (pod["status"]["phase"], condition(pod, "Ready")) == ("Running", "False")


def test_an_exec_probe_makes_a_pod_ready_and_unready_again(cluster: Cluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.run("shell", "busybox", container={"readinessProbe": probe})
    cluster.when("shell", lambda pod: pod["status"]["phase"] == "Running")
    cluster.inside("shell", "touch /tmp/ready")
    cluster.when("shell", lambda pod: condition(pod, "Ready") == "True")
    cluster.inside("shell", "rm /tmp/ready")
    cluster.when("shell", lambda pod: condition(pod, "Ready") == "False")


def test_a_failed_liveness_probe_restarts_the_container_and_keeps_the_address(cluster: Cluster) -> None:
    probe = {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.run("sick", "podwire/echo", container={"livenessProbe": probe})
    cluster.settle()
    before = cluster.pod("sick")["status"]["podIP"]
    after = cluster.when("sick", lambda pod: main_status(pod).get("restartCount") == 1)
    assert after["status"]["podIP"] == before
    assert cluster.event("sick", "Killing") == "Container main failed liveness probe, will be restarted"
    refused = f"Liveness probe failed: dial tcp {before}:81: connect: connection refused"
    assert cluster.event("sick", "Unhealthy") == refused


def test_a_startup_probe_holds_the_others_back(cluster: Cluster) -> None:
    startup = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 99}
    liveness = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.run("slow", "busybox", container={"startupProbe": startup, "livenessProbe": liveness})
    cluster.when("slow", lambda pod: pod["status"]["phase"] == "Running")
    cluster.event("slow", "Unhealthy")
    assert main_status(cluster.pod("slow"))["started"] is False
    cluster.inside("slow", "touch /tmp/up")
    cluster.when("slow", lambda pod: main_status(pod).get("restartCount") == 1)


def test_a_deleted_pod_is_told_to_end_then_killed_and_its_address_rests(cluster: Cluster) -> None:
    cluster.run(
        "old", "busybox", container={"command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]}
    )
    cluster.settle()
    address = cluster.pod("old")["status"]["podIP"]
    cluster.client.delete("Pod", "old", grace=1)
    marked = cluster.pod("old")
    assert marked["metadata"]["deletionTimestamp"]
    cluster.until_gone("old")
    assert "old" not in cluster.wires.plugged
    cluster.run("old")
    cluster.settle()
    assert cluster.pod("old")["status"]["podIP"] != address


def test_a_pod_that_takes_the_name_of_one_still_ending_is_left_alone(cluster: Cluster) -> None:
    stubborn = {"command": ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"]}
    old = cluster.run("heir", "busybox", ports=(), container=stubborn)
    cluster.settle()
    cluster.client.delete("Pod", "heir", grace=2)
    cluster.event("heir", "Killing")
    cluster.client.delete("Pod", "heir", grace=0)
    new = cluster.run("heir")
    cluster.settle()
    found = cluster.pod("heir")
    assert old["metadata"]["uid"] != found["metadata"]["uid"] == new["metadata"]["uid"]
    assert condition(found, "Ready") == "True"


def test_a_mirror_pod_is_shown_and_never_started(cluster: Cluster) -> None:
    annotations = {"kubernetes.io/config.mirror": "static"}
    container = {"name": "main", "image": "nginx"}
    cluster.client.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "static", "namespace": "default", "annotations": annotations},
            "spec": {"nodeName": "node1", "containers": [container], "hostNetwork": True},
        }
    )
    cluster.settle()
    assert cluster.events("static") == {}
    assert "static" not in {running["pod"] for running in cluster.runtime.client.containers()}


def test_environment_files_and_names_are_those_of_kubernetes(cluster: Cluster) -> None:
    port = {"name": "http", "port": 80, "targetPort": 8080}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "my-db", "namespace": "default"},
        "spec": {"ports": [port], "clusterIP": "10.96.7.7"},
    }
    cluster.client.create(service)
    env = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "URL", "value": "http://$(MY_DB_SERVICE_HOST):$(MY_DB_SERVICE_PORT_HTTP)/"},
    ]
    cluster.run(
        "env", "busybox", container={"env": env}, hostAliases=[{"ip": "10.0.0.9", "hostnames": ["nine"]}]
    )
    cluster.settle()
    address = cluster.pod("env")["status"]["podIP"]
    assert cluster.inside("env", "echo $IP $URL $MY_DB_PORT_80_TCP_ADDR").stdout.split() == [
        address, "http://10.96.7.7:80/", "10.96.7.7",
    ]  # fmt: skip
    resolv = cluster.inside("env", "cat /etc/resolv.conf").stdout
    assert "nameserver 10.96.0.10" in resolv
    assert "search default.svc.cluster.local svc.cluster.local cluster.local" in resolv
    hosts = cluster.inside("env", "cat /etc/hosts; hostname").stdout
    assert f"{address}\tenv\n" in hosts
    assert "10.0.0.9\tnine\n" in hosts
    cluster.client.delete("Service", "my-db")


def test_a_host_network_pod_has_the_nodes_address_and_walls_like_others(cluster: Cluster) -> None:
    cluster.run("agent", "busybox", hostNetwork=True)
    cluster.settle()
    pod = cluster.pod("agent")
    assert pod["status"]["podIP"] == str(NODE)
    assert "podwire.dev/interface" not in pod["metadata"].get("annotations", {})
    assert cluster.inside("agent", "hostname; hostname stolen; hostname").stdout.split() == ["node1", "node1"]


def test_init_containers_run_in_order_before_the_others(cluster: Cluster) -> None:
    inits = [{"name": f"init{n}", "image": "busybox", "command": ["sh", "-c", "exit 0"]} for n in (1, 2)]
    cluster.run("ordered", initContainers=inits)
    pod = cluster.when("ordered", lambda pod: condition(pod, "Ready") == "True")
    first, second = pod["status"]["initContainerStatuses"]
    assert first["state"]["terminated"]["reason"] == second["state"]["terminated"]["reason"] == "Completed"


def test_an_init_container_that_fails_for_good_fails_the_pod(cluster: Cluster) -> None:
    init = {"name": "init", "image": "busybox", "command": ["sh", "-c", "exit 1"]}
    cluster.run("stuck", initContainers=[init], restartPolicy="Never")
    cluster.when("stuck", lambda pod: pod["status"]["phase"] == "Failed")


def test_a_missing_config_map_is_waited_for(cluster: Cluster) -> None:
    env = [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "paint", "key": "colour"}}}]
    cluster.run("painted", "busybox", container={"env": env})
    cluster.settle()
    assert main_status(cluster.pod("painted"))["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    paint = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "paint"},
        "data": {"colour": "red"},
    }
    cluster.client.create(paint)
    cluster.when("painted", lambda pod: condition(pod, "Ready") == "True")
    assert cluster.inside("painted", "echo $COLOUR").stdout == "red\n"


def test_a_command_in_a_manifest_is_reported_where_it_is_not_run(cluster: Cluster) -> None:
    cluster.run("odd", container={"command": ["nginx", "-g", "daemon off;"]})
    cluster.settle()
    assert "command ['nginx', '-g', 'daemon off;'] is not run" in cluster.events("odd")["CommandIgnored"]


def test_a_runtime_that_crashed_takes_its_containers_with_it_and_they_come_back(cluster: Cluster) -> None:
    cluster.run("light")
    cluster.run("heavy", "busybox")
    cluster.settle()
    addresses = {name: cluster.pod(name)["status"]["podIP"] for name in ("light", "heavy")}
    box = next(c["box"] for c in cluster.runtime.client.containers() if c["pod"] == "heavy")
    cluster.runtime.crash()
    for name in addresses:
        down = cluster.when(name, lambda pod: condition(pod, "Ready") == "False")
        assert main_status(down)["state"]["terminated"]["exitCode"] == 137
    while Path(f"/proc/{box}").exists():
        pass  # or this test ends by its timeout
    cluster.runtime.start_again()
    for name, address in addresses.items():
        pod = cluster.when(name, lambda pod: condition(pod, "Ready") == "True")
        assert (main_status(pod)["restartCount"], pod["status"]["podIP"]) == (1, address)


def test_what_happens_while_the_api_server_is_down_is_told_when_it_is_back(cluster: Cluster) -> None:
    cluster.run("once", "busybox", container={"command": ["sleep", "99999"]}, restartPolicy="Never")
    cluster.settle()
    cluster.api.crash()
    killing = cluster.inside("once", "kill -9 $(pgrep -f 'sleep 9999[9]')")
    assert killing.returncode in (0, 137)  # with the container goes whoever is in it
    cluster.api.start()
    cluster.api.wait_ready()
    pod = cluster.when("once", lambda pod: pod["status"]["phase"] == "Failed")
    assert main_status(pod)["state"]["terminated"]["exitCode"] == 137
    cluster.run("after")
    cluster.settle()
    assert condition(cluster.pod("after"), "Ready") == "True"


def test_many_pods_are_ready_in_few_batches(cluster: Cluster) -> None:
    for number in range(40):
        cluster.run(f"many-{number}")
    cluster.settle()
    pods = [cluster.pod(f"many-{number}") for number in range(40)]
    assert {condition(pod, "Ready") for pod in pods} == {"True"}
    assert len({pod["status"]["podIP"] for pod in pods}) == 40
