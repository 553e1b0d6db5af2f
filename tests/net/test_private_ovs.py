"""The private Open vSwitch: serves when start() returns, survives a crash, says what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api.errors import MachineError, UsageError
from topo import ovs, sandbox
from topo.ovs import OvsError, PrivateOvs


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[PrivateOvs]:
    private = PrivateOvs(tmp_path, "user")
    private.start()
    private.vsctl(
        "add-br", "br-test", "--", "set", "bridge", "br-test", f"datapath_type={private.bridge_type}"
    )
    private.vsctl("set", "bridge", "br-test", "protocols=OpenFlow15", "fail_mode=secure")
    yield private
    private.stop()


def test_it_serves_when_start_returns(switch: PrivateOvs) -> None:
    switch.ofctl("add-flow", "br-test", "cookie=0x7,actions=drop")
    assert "cookie=0x7" in switch.ofctl("dump-flows", "br-test")
    switch.appctl("revalidator/wait")
    assert switch.vsctl("get", "Open_vSwitch", ".", "other_config:max-revalidator").strip() == '"100"'


def test_a_crash_of_vswitchd_keeps_bridges_and_loses_flows(switch: PrivateOvs) -> None:
    switch.ofctl("add-flow", "br-test", "cookie=0x7,actions=drop")
    before = switch.vswitchd
    switch.restart_vswitchd()
    assert switch.vswitchd is not before
    assert "br-test" in switch.vsctl("list-br")
    assert "cookie=0x7" not in switch.ofctl("dump-flows", "br-test")


def test_a_failed_command_says_what_it_was_and_what_it_answered(switch: PrivateOvs) -> None:
    with pytest.raises(
        OvsError, match=r"ovs-ofctl -O OpenFlow15 dump-flows nowhere: .*nowhere is not a bridge"
    ):
        switch.ofctl("dump-flows", "nowhere")


def test_a_datapath_the_machine_lacks_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="say auto, kernel or user"):
        PrivateOvs(tmp_path, "fast")
    monkeypatch.setattr(ovs, "_kernel_module", lambda: False)
    with pytest.raises(MachineError, match="no openvswitch module"):
        PrivateOvs(tmp_path, "kernel")
    assert PrivateOvs(tmp_path).datapath == "user"
    monkeypatch.setattr(ovs, "_kernel_module", lambda: True)
    assert PrivateOvs(tmp_path).datapath == "kernel"


def test_outside_a_sandbox_it_never_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "inside", lambda: False)
    with pytest.raises(AssertionError, match="the machine's Open vSwitch"):
        PrivateOvs(tmp_path, "user").start()
