"""What a Service with an SCTP port is told on a kernel without SCTP."""

from __future__ import annotations

import platform
from pathlib import Path

from controller.kubeproxy.notices import complaint, kernel_has_sctp
from tests.kubeproxy_objects import port_object, service_object

SCTP = service_object("sig", "10.96.0.50", port_object(5060, 5060, protocol="SCTP"), port_object(80, 8080))


def test_a_service_with_an_sctp_port_is_told_that_the_kernel_has_none() -> None:
    assert complaint(SCTP, sctp=False) == (
        "SCTPNotSupported",
        "port 5060: this kernel has no SCTP, so no pod can listen to it",
    )
    assert complaint(SCTP, sctp=True) is None
    assert complaint(service_object("web", "10.96.0.51", port_object(80, 8080)), sctp=False) is None


def test_a_kernel_has_sctp_that_is_there_built_in_or_could_be_loaded(tmp_path: Path) -> None:
    assert not kernel_has_sctp(tmp_path)
    modules = tmp_path / "lib/modules" / platform.release()
    modules.mkdir(parents=True)
    (modules / "modules.builtin").write_text("kernel/net/ipv4/udp.ko\n")
    (modules / "modules.dep").write_text("kernel/net/dccp/dccp.ko:\n")
    assert not kernel_has_sctp(tmp_path)
    (modules / "modules.dep").write_text("kernel/net/sctp/sctp.ko: kernel/lib/libcrc32c.ko\n")
    assert kernel_has_sctp(tmp_path)
    (modules / "modules.dep").unlink()
    protocols = tmp_path / "proc/net/protocols"
    protocols.parent.mkdir(parents=True)
    protocols.write_text("protocol  size\nSCTP  1600\nTCP 2000\n")
    assert kernel_has_sctp(tmp_path)
