"""What the images answer, and which image name means which program."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from topo.images import agnhost, backend_flask, echo, frontend_streamlit, peer
from topo.images.image import Container, Port
from topo.images.light import Datagram, Host
from topo.images.resolver import (
    ResolvConf,
    ResolveError,
    decode_answer,
    encode_query,
    in_hosts,
    resolve,
)
from topo.images.table import find, split
from topo.images.web import Handler, Request, Response

CLIENT = ("198.51.100.11", 40000)
RESOLV = "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"


class FakeHost(Host):
    """Records what a program binds, opens no socket."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.tcp: dict[int, Handler] = {}
        self.udp_ports: dict[int, Datagram] = {}
        self.exits: list[tuple[int, str]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []

    async def http(self, port: int, handler: Handler, *, raw: Any = None) -> None:
        self.tcp[port] = handler

    async def udp(self, port: int, handler: Datagram) -> None:
        self.udp_ports[port] = handler

    def exit(self, code: int, message: str = "") -> None:
        self.exits.append((code, message))

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))

    def new_socket(self, kind: int, family: int = socket.AF_INET, proto: int = 0) -> socket.socket:
        raise OSError(101, "Network is unreachable")


def container(image: str = "nginx", **changes: Any) -> Container:
    values: dict[str, Any] = {
        "id": "c1", "name": "main", "image": image, "pod": "web-1", "namespace": "default", "node": "node1",
        "netns": "/none", "addresses": ("10.244.1.2",), "hostname": "web-1",
        "files": {"/etc/resolv.conf": RESOLV},
    }  # fmt: skip
    return Container(**{**values, **changes})


def serve(module: Any, made: Container) -> FakeHost:
    host = FakeHost(made)
    asyncio.run(module.program(made).serve(host))
    return host


def get(host: FakeHost, port: int, path: str, *, method: str = "GET", **query: str) -> Response:
    answer: Awaitable[Response] = host.tcp[port](
        Request(
            method=method,
            path=path,
            query=query,
            headers={"Host": "web"},
            peer=CLIENT,
            local=("10.244.1.2", port),
        )
    )

    async def wait() -> Response:
        return await answer

    return asyncio.run(wait())


# -- names


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("seblum/mlops-public:backend-flask", "backend-flask"),
        ("docker.io/seblum/mlops-public:frontend-streamlit", "frontend-streamlit"),
        ("registry.k8s.io/e2e-test-images/agnhost:2.53", "agnhost"),
        ("busybox", "shell"),
        ("docker.io/library/busybox:1.36@sha256:abcd", "shell"),
        ("gcr.io/google-containers/busybox", "shell"),
        ("curlimages/curl:8.1.2", "shell"),
        ("podwire/scapy", "raw-shell"),
        ("nginx:1.27", "echo"),
        ("localhost:5000/team/busyboxes", "echo"),
        ("seblum/mlops-public:something-else", "echo"),
    ],
)
def test_an_image_name_means_a_program(image: str, program: str) -> None:
    assert find(image).name == program


def test_only_the_unknown_is_a_stand_in() -> None:
    assert find("nginx").stand_in
    assert not find("podwire/echo").stand_in
    assert not find("busybox").stand_in


def test_a_registrys_port_is_no_tag() -> None:
    assert split("localhost:5000/app") == ("localhost:5000/app", "latest")
    assert split("localhost:5000/app:v1") == ("localhost:5000/app", "v1")


# -- the mission's two


def test_the_backend_tells_five_populations() -> None:
    host = serve(backend_flask, container())
    answer = get(host, 5000, "/data")
    assert answer.content_type == "application/json"
    data = json.loads(answer.body)
    assert list(data) == ["China", "India", "USA", "Indonesia", "Pakistan"]
    assert data["China"] == "1,412,600,000"
    assert get(host, 5000, "/data", method="POST").body == answer.body
    assert get(host, 5000, "/data", method="PUT").status == 405


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/liveness", 200), ("/readiness", 200), ("/none", 404)]
)
def test_the_backends_pages(path: str, status: int) -> None:
    assert get(serve(backend_flask, container()), 5000, path).status == status


def test_the_backend_ends_itself_when_told_to() -> None:
    host = serve(backend_flask, container(env={"KILL_IN_SECONDS": "30"}))
    [(seconds, kill)] = host.timers
    assert seconds == 30
    kill()
    assert host.exits[0][0] == 1
    assert serve(backend_flask, container(env={"KILL_IN_SECONDS": "soon"})).exits[0][0] == 1


def test_the_frontend_shows_its_variable_and_the_resolvers_error() -> None:
    page = get(serve(frontend_streamlit, container(env={"DB_SERVICE": "backendflask:5001"})), 8501, "/")
    assert page.status == 200
    text = str(page.body)
    assert "<title>Frontend Deployment</title>" in text
    assert "<code>backendflask:5001</code>" in text
    assert (
        "Failed to resolve &#x27;backendflask&#x27; ([Errno -3] Temporary failure in name resolution)" in text
    )


def test_the_frontend_shows_the_connections_error_for_an_address() -> None:
    page = get(serve(frontend_streamlit, container(env={"DB_SERVICE": "10.96.7.7:5001"})), 8501, "/")
    assert "Failed to connect to 10.96.7.7:5001 ([Errno 101] Network is unreachable)" in str(page.body)


def test_the_frontend_without_its_variable_says_so() -> None:
    assert "DB_SERVICE is not set" in str(get(serve(frontend_streamlit, container()), 8501, "/").body)


def test_what_the_backend_says_is_escaped() -> None:
    page = get(serve(frontend_streamlit, container(env={"DB_SERVICE": "<script>:1"})), 8501, "/")
    assert "<script>" not in str(page.body)


# -- agnhost and the stand-in


def netexec(*args: str) -> FakeHost:
    return serve(agnhost, container("agnhost", argv=("netexec", *args)))


def test_netexec_binds_the_ports_it_is_told() -> None:
    assert (list(netexec().tcp), list(netexec().udp_ports)) == ([8080], [8081])
    host = netexec("--http-port=80", "--udp-port", "90")
    assert (list(host.tcp), list(host.udp_ports)) == ([80], [90])
    assert list(netexec("--udp-port=-1").udp_ports) == []


@pytest.mark.parametrize(
    ("path", "query", "status", "body"),
    [
        ("/hostname", {}, 200, "web-1"),
        ("/clientip", {}, 200, "198.51.100.11:40000"),
        ("/echo", {"msg": "hi"}, 200, "hi"),
        ("/echo", {"msg": "hi", "code": "503"}, 503, "hi"),
        ("/healthz", {}, 200, ""),
        ("/nothing", {}, 404, "404 page not found\n"),
    ],
)
def test_netexec_answers(path: str, query: dict[str, str], status: int, body: str) -> None:
    answer = get(netexec(), 8080, path, **query)
    assert (answer.status, answer.body) == (status, body)


def test_netexec_runs_no_shell() -> None:
    assert get(netexec(), 8080, "/shell", cmd="id").status == 403


def test_netexec_exits_with_the_code_asked_for_after_answering() -> None:
    host = netexec()
    answer = get(host, 8080, "/exit", code="3")
    assert host.exits == []
    assert answer.then is not None
    answer.then()
    assert host.exits == [(3, "")]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"hostname\n", b"web-1"),
        (b"clientip", b"198.51.100.11:40000"),
        (b"echo a b", b"a b"),
        (b"what", None),
    ],
)
def test_netexec_answers_datagrams(asked: bytes, answer: bytes | None) -> None:
    assert netexec().udp_ports[8081](asked, CLIENT) == answer


def test_agnhost_may_be_spelled_out_as_command_and_knows_its_subcommands() -> None:
    spelled = container("agnhost", argv=("/agnhost", "netexec", "--http-port=80"), command=2)
    assert list(serve(agnhost, spelled).tcp) == [80]
    assert serve(agnhost, container("agnhost")).tcp == {}
    unknown = serve(agnhost, container("agnhost", argv=("dance",)))
    assert unknown.exits == [(1, 'unknown command "dance" for "agnhost"')]
    wrong = netexec("--http-port=web")
    assert wrong.exits == [(1, 'invalid argument "web" for "--http-port" flag')]


def test_the_stand_in_answers_on_its_container_ports_and_tells_who_asked() -> None:
    ports = (Port(number=80), Port(number=53, protocol="UDP"), Port(number=99, protocol="SCTP"))
    host = serve(echo, container(ports=ports))
    assert (list(host.tcp), list(host.udp_ports)) == ([80], [53])
    told = json.loads(get(host, 80, "/x").body)
    assert (told["pod"], told["node"], told["client"], told["path"]) == (
        "web-1",
        "node1",
        "198.51.100.11:40000",
        "/x",
    )
    assert host.udp_ports[53](b"hello", CLIENT) == b"pod=web-1 node=node1 client=198.51.100.11:40000\nhello"


# -- the resolver


def test_the_search_list_is_tried_as_ndots_says() -> None:
    conf = ResolvConf.parse(RESOLV)
    assert conf.names("db") == ["db.default.svc.cluster.local", "db.svc.cluster.local", "db"]
    assert conf.names("a.b.c.d.e.f")[0] == "a.b.c.d.e.f"
    assert conf.names("db.") == ["db"]
    assert ResolvConf.parse("search x\noptions ndots:1").names("a.b") == ["a.b", "a.b.x"]


def test_the_hosts_file_comes_first() -> None:
    assert in_hosts("# db 1.1.1.1\n::1 db\n10.0.0.1\tdb Data # x\n", "data.") == "10.0.0.1"
    assert in_hosts("10.0.0.1 db\n", "other") is None


def answer_to(query: bytes, rcode: int = 0, *addresses: str) -> bytes:
    head = query[:2] + struct.pack("!5H", 0x8180 | rcode, 1, len(addresses), 0, 0)
    rows = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton(a) for a in addresses)
    return head + query[12:] + rows


def test_an_answers_addresses_are_read_through_compression() -> None:
    query = encode_query("db.svc", 7)
    assert decode_answer(answer_to(query, 0, "10.96.0.7", "10.96.0.8")) == ["10.96.0.7", "10.96.0.8"]
    assert decode_answer(answer_to(query, 3)) == []
    with pytest.raises(ValueError, match="rcode 2"):
        decode_answer(answer_to(query, 2))
    with pytest.raises(ValueError, match="malformed"):
        decode_answer(answer_to(query, 0, "10.0.0.1")[:-6])


def with_server(script: Callable[[bytes], bytes], name: str) -> str:
    """Resolve through a nameserver that answers by ``script``, over a socket pair instead of UDP."""

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            pass

        def setsockopt(self, *args: Any) -> None:
            pass

    async def main() -> str:
        loop = asyncio.get_running_loop()

        def make(kind: int) -> socket.socket:
            near, far = socket.socketpair(socket.AF_UNIX, kind)
            near.setblocking(False)
            far.setblocking(False)

            def answer() -> None:
                loop.remove_reader(far)
                with far:
                    far.send(script(far.recv(4096)))

            loop.add_reader(far, answer)
            return Socket(socket.AF_UNIX, kind, fileno=near.detach())

        return await resolve(name, hosts="", conf=ResolvConf.parse(RESOLV), make_socket=make)

    return asyncio.run(main())


def test_a_name_is_found_by_the_search_list() -> None:
    def script(query: bytes) -> bytes:
        known = b"\x02db\x03svc\x07cluster" in query
        return answer_to(query, 0, "10.96.0.7") if known else answer_to(query, 3)

    assert with_server(script, "db") == "10.96.0.7"


def test_a_name_nobody_knows_fails_with_glibcs_words() -> None:
    with pytest.raises(ResolveError, match=r"\[Errno -2\] Name or service not known"):
        with_server(lambda query: answer_to(query, 3), "db")


def test_a_server_that_fails_is_a_temporary_failure() -> None:
    with pytest.raises(ResolveError, match=r"\[Errno -3\] Temporary failure in name resolution"):
        with_server(lambda query: answer_to(query, 2), "db")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (("10.244.1.2", 41000), "10.244.1.2:41000"),
        (("::ffff:10.244.1.2", 41000, 0, 0), "10.244.1.2:41000"),
        (("fd00:10:244:1::2", 41000, 0, 0), "[fd00:10:244:1::2]:41000"),
        (("::", 80), "[::]:80"),
    ],
)
def test_a_peer_is_shown_as_a_program_of_its_family_would(name: tuple[str, int], text: str) -> None:
    assert peer.shown(peer.peer_of(name)) == text
