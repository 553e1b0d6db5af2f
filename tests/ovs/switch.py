"""A private Open vSwitch with the dummy datapath: real ovs-vswitchd, no root, no kernel, no network.

Bytes go in by ``netdev-dummy/receive`` and come out in pcap files; conntrack, NAT and groups are those of
the userspace datapath. The processes themselves are ``private_ovs``'s.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from controller.kubeproxy import openflow
from controller.kubeproxy.openflow_packets import OFPT_FLOW_REMOVED, OFPT_PACKET_IN
from tests.ovs.private_ovs import PrivateOvs


class SwitchError(AssertionError):
    """The switch refused something; the text is what it said."""


class UnixCtl:
    """ovs-appctl without a process a call: JSON-RPC on a daemon's control socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._decoder = json.JSONDecoder()
        self._id = 0

    def __call__(self, method: str, *params: str) -> str:
        self._id += 1
        self._socket.sendall(json.dumps({"method": method, "params": params, "id": self._id}).encode())
        text = ""
        while True:
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise SwitchError(f"{method}: the daemon is gone")
            text += piece.decode()
            try:
                reply, _ = self._decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue
            if reply["error"]:
                raise SwitchError(f"{method} {params}: {reply['error']}")
            return str(reply["result"] or "")

    def close(self) -> None:
        self._socket.close()


class OpenFlowSocket:
    """A connection to one bridge, speaking the bytes of our own encoder."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))
        self._left = b""
        self.unasked: list[bytes] = []
        """Packet-ins and removed flows, as they came while an answer was waited for."""
        self._xid = 0
        self._socket.sendall(struct.pack("!BBHI", 6, 0, 8, 0))
        hello = self._receive()
        assert hello[0] == 6, "the bridge does not speak OpenFlow 1.5"

    def _receive(self) -> bytes:
        while True:
            messages, rest = openflow.split(self._left)
            if messages:
                self._left = b"".join(messages[1:]) + rest
                if messages[0][1] not in (OFPT_PACKET_IN, OFPT_FLOW_REMOVED):
                    return messages[0]
                self.unasked.append(messages[0])
                continue
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise SwitchError("the bridge closed the connection")
            self._left += piece

    def send(self, messages: Iterable[bytes]) -> None:
        """Send, then wait for the barrier; the first error the switch reports is raised, in its own words."""
        self._xid += 1
        for piece in openflow.joined([*messages, openflow.barrier_request(self._xid)]):
            self._socket.sendall(piece)
        errors = []
        while True:
            reply = self._receive()
            if reply[1] == openflow.OFPT_ERROR:
                errors.append(reply)
            if reply[1] == openflow.OFPT_BARRIER_REPLY:
                break
        if errors:
            raise SwitchError(ofp_print(errors[0]))

    def ask(self, request: bytes) -> list[bytes]:
        """All parts of the answer to a multipart request."""
        self._socket.sendall(request)
        parts = []
        while True:
            reply = self._receive()
            if reply[1] == openflow.OFPT_ERROR:
                raise SwitchError(ofp_print(reply))
            if reply[1] == openflow.OFPT_MULTIPART_REPLY:
                parts.append(reply)
                if not openflow.multipart_more(reply):
                    return parts

    def close(self) -> None:
        self._socket.close()


def ofp_print(message: bytes) -> str:
    """What ovs-ofctl says a message is: the oracle of every encoding. Needs no switch."""
    command = ["ovs-ofctl", "-O", "OpenFlow15", "ofp-print", message.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout


class DummySwitch:
    """Bridges of dummy ports on a ``PrivateOvs``; packets in, packets out."""

    def __init__(self, ovs: PrivateOvs) -> None:
        self.ovs, self.directory = ovs, ovs.directory
        self._read: dict[str, int] = {}
        self._ports: dict[str, dict[str, int]] = {}
        self._openflow: dict[str, OpenFlowSocket] = {}
        self.appctl = UnixCtl(self.directory / "vswitchd.ctl")

    def close(self) -> None:
        for connection in self._openflow.values():
            connection.close()
        self.appctl.close()

    def add_bridges(self, bridges: dict[str, list[str]]) -> None:
        """Bridges with their ports, in one transaction; ofports count from 1 in the order given."""
        arguments: list[str] = []
        for bridge, ports in bridges.items():
            arguments += ["--", "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=dummy",
                          "fail_mode=secure", "protocols=OpenFlow15"]  # fmt: skip
            self._ports[bridge] = {}
            for ofport, port in enumerate(ports, 1):
                pcap = self.directory / f"{port}.pcap"
                arguments += ["--", "add-port", bridge, port, "--", "set", "interface", port, "type=dummy",
                              f"ofport_request={ofport}", f"options:tx_pcap={pcap}"]  # fmt: skip
                self._ports[bridge][port] = ofport
                self._read[port] = 24  # the file header
        self.ovs.vsctl(*arguments)

    def ports(self, bridge: str) -> dict[str, int]:
        return dict(self._ports[bridge])

    def openflow(self, bridge: str) -> OpenFlowSocket:
        if bridge not in self._openflow:
            self._openflow[bridge] = OpenFlowSocket(self.directory / f"{bridge}.mgmt")
        return self._openflow[bridge]

    def warp(self, seconds: int) -> None:
        """Let time go by for a switch whose clock was stopped; it hangs up on whom it takes for dead."""
        for connection in self._openflow.values():
            connection.close()
        self._openflow.clear()
        self.appctl("time/warp", str(1000 * seconds), str(1000 * seconds))

    def receive(self, port: str, packet: bytes) -> None:
        """A packet comes in by ``port``; when this returns, all it causes has left.

        The datapath runs in the daemon's main thread, which answers control requests too: once its lookup
        counter has moved, the packet is done.
        """
        before = self._lookups()
        self.appctl("netdev-dummy/receive", port, packet.hex())
        for _ in range(10000):
            if self._lookups() != before:
                return
        raise SwitchError(f"{port}: the datapath did not take the packet")

    def _lookups(self) -> str:
        text = self.appctl("dpctl/show", "dummy@ovs-dummy")
        return text[text.index("lookups:") : text.index("lost:")]

    def sent(self, port: str) -> list[bytes]:
        """The packets that left by ``port`` since the last look."""
        with open(self.directory / f"{port}.pcap", "rb") as file:
            file.seek(self._read[port])
            data = file.read()
        packets, offset = [], 0
        while offset + 16 <= len(data):
            length = struct.unpack_from("=I", data, offset + 8)[0]
            packets.append(data[offset + 16 : offset + 16 + length])
            offset += 16 + length
        self._read[port] += offset
        return packets

    def conntrack(self) -> list[str]:
        """One line for each tracked connection."""
        return self.appctl("dpctl/dump-conntrack", "dummy@ovs-dummy").splitlines()

    def forget_megaflows(self) -> None:
        """After a change: a barrier does not wait for the revalidators, so old behaviour would linger."""
        self.appctl("revalidator/purge")

    def flush_conntrack(self) -> None:
        self.appctl("dpctl/flush-conntrack")
