"""A running lab, used from a second terminal: every command of ./lab that looks into one."""

from __future__ import annotations

import json
import os
import pwd
import re
import select
import signal
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller.api.kinds import KINDS
from controller.api.schema import clean
from tests.net.leaks import nothing_left, said

ROOT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, "-m", "scenarios"]
MANIFESTS = [str(path) for path in sorted((ROOT / "scenarios" / "manifests").glob("services_*.yaml"))]
HEALTH = "/_stcore/health"
"""Of the frontend: answered without asking the backend by a name that does not resolve yet."""
IS_UP = said("is up:")


def lab(
    *argv: str, input: str | None = None, timeout: float = 60, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **more}
    return subprocess.run(
        [*LAB, *argv], capture_output=True, text=True, timeout=timeout, cwd=ROOT, input=input, env=environment
    )


def answer(*argv: str, input: str | None = None, **more: str) -> str:
    done = lab(*argv, input=input, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def running() -> Iterator[None]:
    """`./lab up` in the foreground of another terminal; at the end nothing of it is left."""
    with nothing_left() as start:
        up = start([*LAB, "up", *MANIFESTS])
        up.reach(IS_UP)
        assert IS_UP.reached(up), up.output
        yield
        assert lab("down").stdout == "the lab 'podwire' is gone\n"
        assert up.end() == 128 + signal.SIGTERM


@pytest.fixture
def folder() -> Iterator[Path]:
    """Gone before anybody looks what is left."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_the_graph_of_the_running_lab_is_drawn_and_tried(folder: Path) -> None:
    assert "  → backendflask:5001    DB_SERVICE\n" in answer("graph")
    out = folder / "graph.json"
    assert answer("graph", "--try", "-o", "json", "--out", str(out)) == ""
    (edge,) = json.loads(out.read_text("utf-8"))["edges"]
    assert (edge["tried"]["outcome"], edge["tried"]["failed"]) == ("ok", False)
    wrong = """
apiVersion: v1
kind: Pod
metadata: {name: lost, namespace: graph-test}
spec: {containers: [{name: a, image: busybox, env: [{name: DB_ADDR, value: "backendflask.default:1"}]}]}
"""
    answer("kubectl", "create", "namespace", "graph-test")
    try:
        answer("kubectl", "apply", "-f", "-", input=wrong)
        answer("kubectl", "wait", "-n", "graph-test", "--for=condition=Ready", "pod/lost")
        tried = lab("graph", "--try", "-n", "graph-test")
        assert (tried.returncode, "      refused, 10." in tried.stdout) == (1, True), tried.stdout
        assert "env DB_ADDR names backendflask.default:1, the Service has 5001" in tried.stdout
    finally:
        answer("kubectl", "delete", "namespace", "graph-test", "--wait=false")


def test_kubectl_reaches_the_lab_by_its_kubeconfig() -> None:
    file = Path("/run/podwire/podwire/kubeconfig")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "frontend-node" in answer("kubectl", "get", "svc")
    assert re.search(
        r"^Endpoints: +10\.244\.\S+:8501", answer("kubectl", "describe", "svc", "frontend-lb"), re.M
    )
    assert re.search(
        r"^node1 +Ready +control-plane", answer("kubectl", "--lab", "podwire", "get", "no"), re.M
    )
    refused = lab("kubectl", "get", "potatoes")
    assert (refused.returncode, "doesn't have a resource type" in refused.stderr) == (1, True)


def test_what_a_lab_answers_has_every_field_that_typed_clients_require() -> None:
    kinds = ",".join(row.resource for row in KINDS.values())
    objects = json.loads(answer("kubectl", "get", kinds, "-A", "-o", "json"))["items"]
    assert {"Pod", "Node", "Service", "EndpointSlice", "ReplicaSet", "Event"} <= {
        obj["kind"] for obj in objects
    }
    for obj in objects:
        _, report = clean(obj)
        assert (report.missing, report.unknown, report.wrong) == ([], [], []), obj


def test_kubectl_shows_and_follows_logs() -> None:
    words = "/bin/sh", "-c", "echo first; echo second; until [ -e /tmp/go ]; do sleep 0.1; done; echo third"
    answer("kubectl", "run", "talks", "--image=busybox", "--restart=Never", "--command", "--", *words)
    answer("kubectl", "wait", "--for=condition=ContainersReady", "pod/talks", "--timeout=20s")
    with ThreadPoolExecutor(1) as beside:
        followed = beside.submit(answer, "kubectl", "logs", "-f", "talks")
        answer("kubectl", "exec", "talks", "--", "touch", "/tmp/go")
        assert followed.result().split() == ["first", "second", "third"]
    assert answer("kubectl", "logs", "--tail=1", "talks") == "third\n"
    answer("kubectl", "delete", "pod", "talks", "--now")
    again = "/bin/sh", "-c", "echo $$; sleep 0.2; exit 1"
    answer("kubectl", "run", "dies", "--image=busybox", "--command", "--", *again)
    restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
    answer("kubectl", "wait", restarted, "pod/dies", "--timeout=20s")
    assert len(answer("kubectl", "logs", "dies", "--previous").split()) == 1
    answer("kubectl", "delete", "pod", "dies", "--now")
    answer("kubectl", "logs", "-n", "kube-system", "kube-proxy-node1")


def test_the_shell_is_the_users_own_with_kubeconfig_set() -> None:
    said = answer("shell", input="echo $KUBECONFIG; readlink /proc/self/ns/net; exit 3 | true\n")
    assert said.splitlines() == ["/run/podwire/podwire/kubeconfig", str(Path("/proc/self/ns/net").readlink())]


def test_files_that_kubectl_writes_are_the_users_behind_sudo() -> None:
    us = pwd.getpwnam("nobody")
    sudo = {"SUDO_UID": str(us.pw_uid), "SUDO_GID": str(us.pw_gid), "SHELL": "/bin/sh"}
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where everybody may pass
        os.chmod(name, 0o777)  # noqa: PTH101
        answer("shell", input=f"id -u > {name}/who\n", **sudo)
        who = Path(name, "who")
        assert (who.read_text(), who.stat().st_uid) == (f"{us.pw_uid}\n", us.pw_uid)


def test_the_api_server_comes_back_behind_the_same_kubeconfig() -> None:
    answer("kubectl", "create", "configmap", "kept")
    victims = [
        int(entry.name) for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_api_server(entry)
    ]  # fmt: skip
    assert len(victims) == 1
    os.kill(victims[0], signal.SIGKILL)
    assert "kept" in answer("kubectl", "get", "configmap")  # waits in the socket's queue meanwhile
    answer("kubectl", "delete", "configmap", "kept")


def _is_api_server(process: Path) -> bool:
    """Whether it is the one of the lab named podwire: its run directory says so."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"controller.api.server" in words and b"/run/podwire/podwire/api.sock" in words


def test_ps_lists_it_as_ready() -> None:
    assert re.search(r"^podwire +ready +\d+s +\d+$", answer("ps"), re.MULTILINE)


def test_get_shows_what_the_api_holds() -> None:
    pods = answer("get", "pods")
    assert pods.splitlines()[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert len(re.findall(r"^frontend-\S+ +1/1 +Running", pods, re.MULTILINE)) == 2
    services = answer("get", "svc")
    assert re.search(r"^frontend-lb +LoadBalancer +10\.\S+ +<pending> +80:3\d+/TCP", services, re.MULTILINE)
    assert re.search(r"^backendflask +ClusterIP +10\.\S+ +<none> +5001/TCP", services, re.MULTILINE)
    one = json.loads(answer("get", "svc", "frontend-node", "-o", "json"))
    assert one["spec"]["ports"][0]["nodePort"] == 30000
    assert "nodePort: 30000" in answer("get", "service", "frontend-node", "-o", "yaml")


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["get", "potatoes"], 2, "the server doesn't have a resource type `potatoes`"),
        (["get", "pod", "nobody"], 1, 'pods "nobody" not found'),
        (["exec", "nobody", "--", "true"], 2, "there is no pod, node or client `nobody`"),
        (["exec", "cliet1", "--", "true"], 2, "Did you mean `client1`?"),
        (["exec", "client1", "--", "no-such-program"], 2, "cannot run `no-such-program`"),
        (["ssh", "client1"], 2, "there is no node `client1`"),
        (["flows", "node9"], 2, "there is no node `node9`"),
        (["flows", "node1", "--service", "nobody"], 1, 'services "nobody" not found'),
        (["url", "nobody"], 1, 'services "nobody" not found'),
        (["url", "backendflask"], 2, "service default/backendflask has no node port"),
        (["capture", "no-link"], 2, "there is no link no-link"),
        (["capture", "--out", "/nowhere/x.pcapng"], 2, "--out /nowhere/x.pcapng: No such file or directory"),
        (["up"], 2, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(argv: list[str], status: int, words: str | None) -> None:
    if argv == ["up"]:
        argv, words = ["up", "--lab", "podwire"], "a lab named 'podwire' is running"
    done = lab(*argv)
    assert done.returncode == status, done.stdout + done.stderr
    assert words is not None
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_exec_runs_in_pods_nodes_and_clients() -> None:
    assert "DB_SERVICE=backendflask:5001" in answer("exec", "deploy/frontend", "--", "env")
    assert answer("exec", "client1", "--", "curl", "-s", f"http://192.168.49.3:30000{HEALTH}") == "ok"
    assert "192.168.49.2" in answer("exec", "node1", "--", "ip", "-4", "addr")


def test_exec_passes_input_output_and_exit_status_through() -> None:
    assert answer("exec", "deploy/backendflask", "--", "tr", "a-z", "A-Z", input="hello") == "HELLO"
    for target in ("deploy/frontend", "client1"):
        done = lab("exec", target, "--", "sh", "-c", "echo wrong >&2; exit 7")
        assert (done.returncode, done.stderr) == (7, "wrong\n")


def test_ssh_reaches_the_website_by_localhost() -> None:
    for node in ("node1", "node2", "node3"):
        assert answer("ssh", node, "--", "curl", "-s", f"localhost:30000{HEALTH}") == "ok"


def test_url_is_what_minikube_prints() -> None:
    assert answer("url", "frontend-node") == "http://192.168.49.2:30000\n"


def test_url_local_is_for_the_user_s_own_browser() -> None:
    with subprocess.Popen(
        [*LAB, "url", "frontend-node", "--local"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        process_group=0,
    ) as forwarder:
        try:
            assert forwarder.stdout
            url = forwarder.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
            for _ in range(3):
                with urllib.request.urlopen(url + HEALTH, timeout=10) as page:
                    assert page.read() == b"ok"
            os.killpg(forwarder.pid, signal.SIGINT)  # as a terminal does
            assert forwarder.wait(20) == 0
        finally:
            forwarder.kill()


def test_flows_are_explained_by_their_objects() -> None:
    everything = answer("flows", "node1")
    assert "ServiceLB" in everything
    assert "because Service default/frontend-node" in everything
    one = answer("flows", "node1", "--service", "backendflask")
    assert "backendflask" in one
    assert "because Service default/frontend-node" not in one
    assert "actions=" in answer("flows", "node1", "--raw")


def test_capture_prints_packets_or_writes_them(folder: Path) -> None:
    links = answer("capture", "--list")
    assert {"client1", "node1-uplink", "node3-host"} <= {line.split()[0] for line in links.splitlines()}
    out = folder / "c.pcapng"
    with subprocess.Popen(
        [*LAB, "capture", "client1", "node2-uplink", "-c", "6", "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as capture:
        assert capture.stderr
        assert select.select([capture.stderr], [], [], 20)[0]
        assert capture.stderr.readline() == "listening on 2 links\n"
        answer("exec", "client1", "--", "curl", "-s", f"http://192.168.49.3:30000{HEALTH}")
        assert capture.wait(20) == 0
    names = subprocess.run(
        ["tshark", "-n", "-r", str(out), "-T", "fields", "-e", "frame.interface_name"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert set(names) == {"client1", "node2-uplink"}


def test_a_shell_sees_the_labs_namespaces_and_its_switch_only() -> None:
    said = answer("shell", "--inside", input="ip netns exec client1 ip -br addr; ovs-vsctl list-br\n")
    assert "198.51.100.11" in said
    assert said.split()[-3:] == ["br-node1", "br-node2", "br-node3"]
    assert answer("shell", "--inside", input="lab=1; exec ./lab list") if os.access("lab", os.X_OK) else True


@pytest.mark.parametrize("udp", [False])
def test_the_balance_probe_finds_both_pods_evenly(udp: bool) -> None:
    probe = ["python", "-m", "scenarios.probes.balance"]
    done = lab("exec", "client1", "--", *probe, "http://192.168.49.2:30000/", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (result["from"], result["sent"], result["answered"]) == ("client1", 600, 600)
    assert len(result["pods"]) == 2
    assert result["p"] > 0.001
    again = json.loads(lab("exec", "client1", "--", *probe, "192.168.49.2:30000", "--json").stdout)
    assert again["answered"] == 600


def test_the_balance_probe_counts_a_refusal_as_no_answer() -> None:
    done = lab("exec", "client1", "--", "python", "-m", "scenarios.probes.balance", "192.168.49.2:31999")
    assert done.returncode == 1
    assert "0 answered" in done.stdout


def test_the_translate_probe_prints_both_translations() -> None:
    script = ["scenarios/probes/translate.py", "http://192.168.49.4:30000/", "--json"]
    done = subprocess.run([sys.executable, *script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    there, back = json.loads(done.stdout)["packets"][:2]
    assert (there["flags"], back["flags"]) == ("SYN", "SYN,ACK")
    assert [r["what"] for hop in there["hops"] for r in hop["rewrites"]] == ["DNAT", "SNAT"]
    assert [r["what"] for hop in back["hops"] for r in hop["rewrites"]] == ["un-SNAT", "un-DNAT"]
    shown = lab("exec", "node1", "--", "python", "-m", "scenarios.probes.translate", "backendflask")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "DNAT 10." in shown.stdout


def test_a_lab_in_the_background_is_used_and_ended() -> None:
    with nothing_left():
        said = answer("up", "-d", "--lab", "second", "--nodes", "1", "--clients", "1")
        assert said.startswith("podwire up: 1 node, 1 outside, ")
        assert "the lab 'second' is up: 1 node, 1 client" in said
        assert "several labs run: podwire, second; choose one by --lab NAME" in lab("get", "pods").stderr
        assert answer("get", "nodes", "--lab", "second").count("Ready") == 1
        for name in ("second", "podwire"):  # the same addresses in both, at once
            words = answer("exec", "client1", "--lab", name, "--", "ping", "-c", "1", "192.168.49.2")
            assert " 0% packet loss" in words
        assert answer("down", "--lab", "second") == "the lab 'second' is gone\n"
