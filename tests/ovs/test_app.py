"""The kubeproxy process against a real Open vSwitch: objects in, flows there, and they stay right.

Nodes 192.168.49.N+1, pods 10.244.N.P on port nodeN-pP, Service web 10.96.0.80:80 -> pods' 8080.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api.errors import NotSettled
from controller.kubeproxy import pipeline
from tests.ovs.kubeproxy_lab import KubeproxyLab

WEB = "10.96.0.80"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[KubeproxyLab]:
    lab = KubeproxyLab(tmp_path)
    try:
        yield lab.start()
    finally:
        lab.stop()


@pytest.fixture
def running(lab: KubeproxyLab) -> KubeproxyLab:
    """One node, two pods, one Service with the first pod behind it; settled. For tests that kill."""
    return bring_up(lab)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeproxyLab]:
    lab = KubeproxyLab(tmp_path_factory.mktemp("common"))
    try:
        yield bring_up(lab.start())
    finally:
        lab.stop()


@pytest.fixture
def shared(common: KubeproxyLab) -> KubeproxyLab:
    """The same, one for all tests that kill nothing; each starts from one endpoint behind web."""
    common.set_endpoints("web", ["10.244.1.2"])
    common.settle()
    assert common.kubeproxy is not None
    common.kubeproxy.forget()
    return common


def bring_up(lab: KubeproxyLab) -> KubeproxyLab:
    kubeproxy = lab.spawn_kubeproxy()
    lab.add_bridge(1)
    lab.add_node(1)
    lab.add_pod(1, 2)
    lab.add_pod(1, 3)
    lab.add_service("web", WEB, ["10.244.1.2"])
    lab.connect(kubeproxy)
    lab.settle()
    return lab


def test_what_the_objects_say_is_on_the_switch_once_settled(shared):
    assert any(WEB in flow and "group:" in flow for flow in shared.flows())
    assert any("10.244.1.2" in flow and "8080" in flow for flow in shared.flows())
    assert len(shared.groups()) == 2  # the Service's, and that of fragments


def test_a_change_is_there_when_settled_and_its_line_says_why(shared):
    shared.set_endpoints("web", ["10.244.1.2", "10.244.1.3"])
    shared.settle()
    assert any("10.244.1.3" in flow and "8080" in flow for flow in shared.flows())
    line = shared.kubeproxy.wait_for("because EndpointSlice default/web-1")
    assert "node1: " in line
    assert "1 group changed" in line


def test_each_change_is_timed_from_the_event_to_the_barrier(shared):
    shared.set_endpoints("web", ["10.244.1.2", "10.244.1.3"])
    shared.settle()
    last = json.loads(shared.timing.read_text().splitlines()[-1])
    assert last["node"] == "node1"
    assert last["causes"] == ["EndpointSlice default/web-1"]
    assert 0 < last["milliseconds"] < 5000
    assert last["receivedAt"] < last["barrierAt"]


def test_two_nodes_settle_each_with_its_own_flows(shared):
    shared.add_bridge(2)
    shared.ovs.set_controller("br-node2", shared.target)
    shared.add_node(2)
    shared.settle(1, 2)
    assert any(WEB in flow for flow in shared.flows(2))
    assert shared.flows(1) != shared.flows(2)


def test_a_switch_that_no_node_names_waits_until_its_node_appears(shared):
    shared.add_bridge(3)
    shared.ovs.set_controller("br-node3", shared.target)
    shared.kubeproxy.wait_for("switch 0000000000000003 connected; no Node names it yet")
    assert shared.flows(3) == []
    shared.add_node(3)
    shared.settle(3)
    assert any(WEB in flow for flow in shared.flows(3))


def test_a_pod_whose_port_is_missing_keeps_settle_waiting_until_the_port_comes(shared):
    shared.add_pod(1, 9)
    with pytest.raises(NotSettled, match="kubeproxy/node1"):
        shared.settle(timeout=0.3)
    shared.kubeproxy.wait_for("waiting: no port node1-p9 on the bridge for pod default/pod-1-9")
    shared.ovs.vsctl("add-port", "br-node1", "node1-p9")
    shared.settle()
    assert any("10.244.1.9" in flow for flow in shared.flows())


def put_right(lab: KubeproxyLab, before: tuple[list[str], list[str]]) -> None:
    """What was done by hand is undone; in several steps when a read-back came between two commands."""
    for _ in range(4):
        lab.kubeproxy.wait_for("because the switch no longer held what was sent")
        if (lab.flows(), lab.groups()) == before:
            return
    assert (lab.flows(), lab.groups()) == before


def test_a_flow_and_a_group_removed_by_hand_come_back(shared):
    before = shared.flows(), shared.groups()
    shared.ovs.ofctl("del-groups", "br-node1")
    shared.ovs.ofctl("del-flows", "br-node1", f"ip,nw_dst={WEB}")
    assert (shared.flows(), shared.groups()) != before
    put_right(shared, before)


def test_a_foreign_flow_added_by_hand_is_removed(shared):
    before = shared.flows(), shared.groups()
    shared.ovs.ofctl("add-flow", "br-node1", "table=0,priority=9999,actions=drop")
    put_right(shared, before)


def test_a_flow_altered_by_hand_is_put_right(shared):
    before = shared.flows(), shared.groups()
    shared.ovs.ofctl("add-flow", "br-node1", "table=0,priority=9999,actions=drop")
    shared.kubeproxy.wait_for("because the switch no longer held what was sent")  # so it has looked at all
    table = pipeline.TABLE_IDS["ServiceLB"]
    shared.ovs.ofctl("mod-flows", "br-node1", f"table={table},ip,nw_dst={WEB},actions=drop")
    assert shared.flows() != before[0]
    put_right(shared, before)


def test_a_restarted_vswitchd_gets_everything_again(running):
    before = running.flows(), running.groups()
    running.ovs.kill_vswitchd()
    running.kubeproxy.wait_for("switch disconnected")
    running.ovs.start_vswitchd()
    running.kubeproxy.wait_for("flows? added.* because the switch connected")
    assert (running.flows(), running.groups()) == before


def test_flows_stay_while_the_api_server_is_away_and_changes_follow_when_it_is_back(running):
    before = running.flows()
    running.api.kill()
    assert running.flows() == before
    running.start_api()
    running.settle()
    assert running.flows() == before
    running.set_endpoints("web", ["10.244.1.3"])
    running.settle()
    assert any("10.244.1.3" in flow and "8080" in flow for flow in running.flows())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_at_once_and_the_flows_stay(running, number):
    before = running.flows()
    began = time.monotonic()
    assert running.kubeproxy.kill(number) == 0
    assert time.monotonic() - began < 1  # 0.02 s; the rest is for busy machines
    assert running.flows() == before


def test_killed_and_restarted_it_sends_nothing_when_nothing_changed(running):
    running.count_messages()
    running.restart_kubeproxy()
    running.settle()
    running.set_endpoints("web", ["10.244.1.2", "10.244.1.3"])  # proof that the counting counts
    untouched = running.flow_mods()
    running.settle()
    assert untouched == []
    assert len(running.flow_mods()) >= 3


def test_killed_and_restarted_it_sends_only_what_changed_meanwhile(running):
    running.add_service("gone", "10.96.0.81", ["10.244.1.3"])
    running.settle()
    running.kubeproxy.kill()
    running.client.delete("Service", "gone", "default")
    running.client.delete("EndpointSlice", "gone-1", "default")
    running.set_endpoints("web", ["10.244.1.3"])
    running.count_messages()
    before = running.flows()
    running.restart_kubeproxy()
    running.settle()
    changed = set(before) ^ set(running.flows())
    assert 0 < len(changed) < len(before) / 3
    assert not any("10.96.0.81" in flow for flow in running.flows())
    assert len(running.groups()) == 2  # the Service's, and that of fragments
    # a group counts too, and a flow that is overwritten is one message for two lines that differ
    assert 0 < len(running.flow_mods()) <= len(changed) + 2


def test_a_switch_that_refuses_is_named_with_the_flow_and_tried_again_until_it_accepts(lab):
    lab.add_bridge(1)
    lab.add_node(1)
    lab.add_service("web", WEB, ["10.244.1.2"])
    limit_table(lab, "ServiceLB", 0)
    proxy = lab.start_kubeproxy()
    proxy.wait_for(r"node1: the switch refuses \(OFPET_FLOW_MOD_FAILED.*TABLE_FULL.*\): .*table=ServiceLB")
    lab.ovs.vsctl("clear", "Bridge", "br-node1", "flow_tables")
    lab.settle()
    assert any(WEB in flow for flow in lab.flows())


def test_a_switch_that_refuses_for_ever_ends_the_process_loudly(running):
    limit_table(running, "ServiceLB", 1)
    running.add_service("more", "10.96.0.82", ["10.244.1.3"])
    running.kubeproxy.wait_for("SwitchRefuses: node1: refused 5 times in a row", timeout=30)
    assert running.kubeproxy.process.wait(timeout=10) == 1


def limit_table(lab: KubeproxyLab, table: str, flows: int) -> None:
    number = pipeline.TABLE_IDS[table]
    lab.ovs.vsctl(
        *("--id=@full", "create", "Flow_Table", f"flow_limit={flows}", "overflow_policy=refuse"),
        *("--", "set", "Bridge", "br-node1", f"flow_tables:{number}=@full"),
    )


def test_a_port_in_use_is_one_sentence_and_exit_code_2(running):
    second = running.spawn_kubeproxy()
    second.wait_for("kubeproxy: cannot listen for switches at 127.0.0.1:.*stop what uses the port")
    assert second.process.wait(timeout=10) == 2
