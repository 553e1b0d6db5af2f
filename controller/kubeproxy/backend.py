"""os-ken or Ryu behind one door: connection, handshake, echo, events; nothing else of them is used.

Why it exists: the user named Ryu; os-ken is its maintained continuation with the same API. This is the
only file that imports either, by name, so the same app runs on both. What remains of the framework: the
TCP connection with its send queue, hello and version negotiation, features and port description, echo,
the app class with its event dispatch, and the decoding of port status, barrier replies and errors.
Not used: its thread hub (``hub`` takes its place), its manager program, and its message encoders
(``openflow`` is the only encoder; what describes flows and groups is handed on undecoded, because the
frameworks' decoders fail on some actions).
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from socket import SHUT_RDWR
from time import monotonic
from typing import Any

from controller.api.errors import MachineError
from controller.kubeproxy import hub
from controller.kubeproxy.channel import (
    BarrierAnswered,
    Connected,
    Described,
    Disconnected,
    Heard,
    PortChanged,
    Refused,
    Unasked,
)

LOG = logging.getLogger("kubeproxy")
OPENFLOW_1_5 = 0x06
PACKET_IN, FLOW_REMOVED, MULTIPART_REPLY = 10, 11, 19
REPLY_MORE = 1
APP_CLASS = {"os-ken": ("os_ken", "OSKenApp"), "ryu": ("ryu", "RyuApp")}

Deliver = Callable[[Heard], None]


@dataclass(frozen=True, kw_only=True)
class Framework:
    """The modules of os-ken or Ryu that are used."""

    name: str
    version: str
    app_class: Any
    app_manager: Any
    controller: Any
    exception: Any
    handler: Any
    ofp_event: Any
    ofp_handler: Any
    ofproto_parser: Any
    ofproto: Any


def load(name: str) -> Framework:
    """Import ``os-ken`` or ``ryu``, on our hub. Raises MachineError when it is not installed."""
    package, app_class = APP_CLASS[name]
    sys.modules[f"{package}.lib.hub"] = hub
    if name == "ryu":
        # ryu.base.app_manager imports its web server, which needs an eventlet of before 2021
        sys.modules["ryu.app.wsgi"] = types.ModuleType("ryu.app.wsgi")
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MachineError(f"{name} is not installed for {sys.executable}; run ./lab once") from error

    def module(path: str) -> Any:
        return importlib.import_module(f"{package}.{path}")

    ofp_handler = module("controller.ofp_handler")  # imports all the others
    return Framework(
        name=name,
        version=version(name),
        app_class=getattr(module("base.app_manager"), app_class),
        app_manager=module("base.app_manager"),
        controller=module("controller.controller"),
        exception=module("exception"),
        handler=module("controller.handler"),
        ofp_event=module("controller.ofp_event"),
        ofp_handler=ofp_handler,
        ofproto_parser=module("ofproto.ofproto_parser"),
        ofproto=module("ofproto.ofproto_v1_5"),
    )


def listen(framework: Framework, address: tuple[str, int], deliver: Deliver) -> hub.StreamServer:
    """Take connections from switches at ``address``; what they say goes to ``deliver``, which must not block.

    ``deliver`` is called from several threads. Raises MachineError when the port is taken.
    """
    try:
        server = hub.StreamServer(address, _connection_handler(framework, deliver))
    except OSError as error:
        raise MachineError(
            f"cannot listen for switches at {address[0]}:{address[1]}: {error.strerror};"
            " stop what uses the port or choose another with --listen"
        ) from error
    manager = framework.app_manager.AppManager.get_instance()
    apps = {"ofp_handler": _handshake_class(framework), "kubeproxy": _app_class(framework)}
    manager.applications_cls = apps
    manager.instantiate_apps(deliver=deliver)
    hub.spawn(server.serve_forever)
    return server


def _loud(handler: Callable[[Any], None]) -> Callable[[Any], None]:
    """Both frameworks only log what a handler raises and go on; here it ends the process."""

    def handle(event: Any) -> None:
        try:
            handler(event)
        except Exception as error:
            hub.fail(error)

    handle.__dict__.update(getattr(handler, "__dict__", {}))  # the frameworks look for ``callers`` on it
    handle.__name__ = getattr(handler, "__name__", "handler")
    return handle


def _handshake_class(framework: Framework) -> Any:
    """The framework's own hello, features, port description and echo, without its listener."""

    class Handshake(framework.ofp_handler.OFPHandler):  # type: ignore[misc, name-defined]
        def __init__(self, **_: Any) -> None:
            super().__init__()

        def start(self) -> None:
            framework.app_class.start(self)

        def register_handler(self, event_class: Any, handler: Callable[[Any], None]) -> None:
            super().register_handler(event_class, _loud(handler))

    return Handshake


def _app_class(framework: Framework) -> Any:
    """The app: each event becomes a value of ``channel``, and that is all it does."""
    event, on = framework.ofp_event, framework.handler.set_ev_cls
    main, dead = framework.handler.MAIN_DISPATCHER, framework.handler.DEAD_DISPATCHER
    ofproto = framework.ofproto

    class KubeProxy(framework.app_class):  # type: ignore[misc, name-defined]
        OFP_VERSIONS = (OPENFLOW_1_5,)

        def __init__(self, deliver: Deliver) -> None:
            super().__init__()
            self.deliver = deliver

        def register_handler(self, event_class: Any, handler: Callable[[Any], None]) -> None:
            super().register_handler(event_class, _loud(handler))

        @on(event.EventOFPStateChange, [main, dead])  # type: ignore[untyped-decorator]
        def state_changed(self, ev: Any) -> None:
            path = ev.datapath
            if ev.state == main:
                ports = {_text(port.name): int(port.port_no) for port in list(path.ports.values())}
                self.deliver(Connected(channel=path, at=monotonic(), datapath_id=path.id, ports=ports))
            elif path.id is not None:
                self.deliver(Disconnected(channel=path, at=monotonic()))

        @on(event.EventOFPPortStatus, main)  # type: ignore[untyped-decorator]
        def port_changed(self, ev: Any) -> None:
            port, gone = ev.msg.desc, ev.msg.reason == ofproto.OFPPR_DELETE
            number = None if gone else int(port.port_no)
            name = _text(port.name)
            self.deliver(PortChanged(channel=ev.msg.datapath, at=monotonic(), name=name, number=number))

        @on(event.EventOFPBarrierReply, main)  # type: ignore[untyped-decorator]
        def barrier_answered(self, ev: Any) -> None:
            self.deliver(BarrierAnswered(channel=ev.msg.datapath, at=monotonic(), xid=ev.msg.xid))

        @on(event.EventOFPErrorMsg, main)  # type: ignore[untyped-decorator]
        def refused(self, ev: Any) -> None:
            msg = ev.msg
            self.deliver(
                Refused(
                    channel=msg.datapath,
                    at=monotonic(),
                    xid=msg.xid,
                    error=_error_name(ofproto, msg),
                    data=bytes(msg.data or b""),
                )
            )

    return KubeProxy


def _text(name: bytes | str) -> str:
    return (name.decode() if isinstance(name, bytes) else name).rstrip("\0")


def _error_name(ofproto: Any, msg: Any) -> str:
    if msg.type == ofproto.OFPET_EXPERIMENTER:
        return f"experimenter {msg.experimenter:#x} error {msg.exp_type}"
    return f"{ofproto.ofp_error_type_to_str(msg.type)} {ofproto.ofp_error_code_to_str(msg.type, msg.code)}"


def _connection_handler(framework: Framework, deliver: Deliver) -> Callable[[Any, Any], None]:
    """What runs in the thread of one connection, from hello to the end."""

    class Connection(framework.controller.Datapath):  # type: ignore[misc, name-defined]
        """A ``channel.Channel``."""

        def __init__(self, socket: Any, address: Any) -> None:
            self.expected: set[int] = set()
            super().__init__(socket, address)

        def send(self, data: bytes, close_socket: bool = False) -> bool:
            try:
                return bool(super().send(data, close_socket))
            except AttributeError:  # it tests send_q, then uses it; the sender thread may clear it between
                return False

        def hang_up(self) -> None:
            try:
                self.socket.shutdown(SHUT_RDWR)
            except OSError:
                pass

        def expect(self, xid: int) -> None:
            self.expected.add(xid)

        def described(self, xid: int, message: bytes) -> None:
            more = bool(int.from_bytes(message[10:12], "big") & REPLY_MORE)
            if not more:
                self.expected.discard(xid)
            deliver(Described(channel=self, at=monotonic(), xid=xid, message=message, more=more))

    parsers = framework.ofproto_parser
    decode = importlib.import_module(framework.ofproto.__name__ + "_parser").msg_parser

    @parsers.register_msg_parser(OPENFLOW_1_5)  # type: ignore[untyped-decorator]
    def parse(path: Any, version: int, kind: int, length: int, xid: int, data: bytearray) -> Any:
        """The frameworks' own seam: replies we asked for go to us undecoded, all else to their decoder."""
        if kind == MULTIPART_REPLY and xid in path.expected:
            path.described(xid, bytes(data[:length]))
            return None
        if kind in (PACKET_IN, FLOW_REMOVED):
            deliver(Unasked(channel=path, at=monotonic(), message=bytes(data[:length])))
            return None
        return decode(path, version, kind, length, xid, data)

    peer_faults = (
        framework.exception.OFPUnknownVersion,
        framework.exception.OFPMalformedMessage,
        framework.exception.OFPTruncatedMessage,
    )

    def handle(socket: Any, address: Any) -> None:
        connection = Connection(socket, address)
        try:
            connection.serve()
        except peer_faults as error:
            LOG.warning("closed the connection from %s, which does not speak OpenFlow: %s", address, error)
        finally:
            connection.close()
            socket.close()

    return handle
