"""The same app under Ryu 4.34, which the first run installs; later ones ask no registry."""

from __future__ import annotations

from pathlib import Path

from tests.ovs.kubeproxy_lab import KubeproxyLab


def test_the_same_app_runs_under_ryu(tmp_path: Path):
    lab = KubeproxyLab(tmp_path, backend="ryu")
    try:
        lab.start()
        lab.add_bridge(1)
        lab.add_node(1)
        lab.add_pod(1, 2)
        lab.add_service("web", "10.96.0.80", ["10.244.1.2"])
        kubeproxy = lab.start_kubeproxy()
        assert any("runs on ryu 4.34" in line for line in kubeproxy.lines)
        lab.settle()
        before = lab.flows(), lab.groups()
        assert any("10.96.0.80" in flow and "group:" in flow for flow in before[0])
        assert len(before[1]) == 2  # the Service's, and that of fragments
        lab.count_messages()
        lab.restart_kubeproxy()
        lab.settle()
        assert lab.flow_mods() == []
        assert (lab.flows(), lab.groups()) == before
        lab.ovs.kill_vswitchd()
        lab.kubeproxy.wait_for("switch disconnected")
        lab.ovs.start_vswitchd()
        lab.kubeproxy.wait_for("flows? added.* because the switch connected")
        assert (lab.flows(), lab.groups()) == before
    finally:
        lab.stop()
