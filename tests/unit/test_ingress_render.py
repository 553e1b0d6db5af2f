"""Which backend a request reaches through a real nginx with the rendered configuration, and what never
gets into that configuration."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.ingress.nginx import Nginx, NginxError
from controller.ingress.render import render
from controller.ingress.routes import Routes, match, routes
from topo.images.ingress_nginx import MISSING, nginx_program

Obj = dict[str, Any]
CLASS: Obj = {
    "kind": "IngressClass",
    "metadata": {"name": "nginx"},
    "spec": {"controller": "k8s.io/ingress-nginx"},
}


def rule(host: str, *paths: tuple[str, str, str]) -> Obj:
    """Paths as (pathType, path, Service)."""
    made = [
        {"pathType": kind, "path": path, "backend": {"service": {"name": name, "port": {"number": 80}}}}
        for kind, path, name in paths
    ]
    return {**({"host": host} if host else {}), "http": {"paths": made}}


def ingress(name: str, *rules: Obj, born: str = "2026-01-01T00:00:00Z", **spec: Any) -> Obj:
    metadata = {"name": name, "namespace": "default", "creationTimestamp": born}
    return {
        "kind": "Ingress",
        "metadata": metadata,
        "spec": {"ingressClassName": "nginx", "rules": list(rules), **spec},
    }


def service(name: str, port: int = 80, word: str = "http") -> Obj:
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": word, "port": port}]},
    }


def endpoints(name: str, *addresses: str, port: int = 8080, ready: bool = True, word: str = "http") -> Obj:
    return {
        "kind": "EndpointSlice",
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "ports": [{"name": word, "port": port}],
        "endpoints": [{"addresses": [a], "conditions": {"ready": ready}} for a in addresses],
    }


SHOP = ingress(
    "shop",
    rule("shop.com", ("Prefix", "/", "root"), ("Prefix", "/foo", "foo"), ("Exact", "/foo/bar", "exact")),
    rule("*.shop.com", ("Prefix", "/", "wild")),
    rule("*.eu.shop.com", ("Prefix", "/", "wilder")),
    rule("www.shop.com", ("Prefix", "/a/", "slash"), ("ImplementationSpecific", "/impl", "impl")),
    rule(
        "exact.com",
        ("Exact", "/foo/", "exact"),
        ("Prefix", "/foo/bar", "longest"),
        ("Prefix", "/b", "foo"),
        ("Exact", "/b", "exact"),
        ("Prefix", "/with%20space", "root"),
    ),
    rule("slashed.com", ("Exact", "/foo/", "exact"), ("Prefix", "/", "root")),
    rule("sick.com", ("Prefix", "/", "sick"), ("Prefix", "/none", "missing")),
    born="2025-01-01T00:00:00Z",
)
DEFAULTED = ingress(
    "defaulted",
    rule("defaulted.com", ("Exact", "/only", "exact")),
    defaultBackend={"service": {"name": "fallback", "port": {"name": "http"}}},
)
YOUNGER = ingress(
    "younger",
    rule("shop.com", ("Prefix", "/foo", "late"), ("Prefix", "/new", "late")),
    born="2026-06-01T00:00:00Z",
)
NAMES = ("root", "foo", "exact", "wild", "wilder", "slash", "impl", "longest", "late", "fallback")

REQUESTS = [
    ("shop.com", "/", "root"),
    ("shop.com", "/foo", "foo"),
    ("shop.com", "/foo/", "foo"),
    ("shop.com", "/foo?x=1", "foo"),
    ("shop.com", "/foo/baz", "foo"),
    ("shop.com", "/foobar", "root"),
    ("shop.com", "/FOO", "root"),
    ("shop.com", "/foo/bar", "exact"),
    ("shop.com", "/foo/bar/", "foo"),
    ("shop.com", "/foo/../foo/bar", "exact"),
    ("shop.com", "/new/x", "late"),
    ("SHOP.com:80", "/foo", "foo"),
    ("a.shop.com", "/", "wild"),
    ("a.b.shop.com", "/", "fallback"),
    ("a.eu.shop.com", "/", "wilder"),
    ("eu.shop.com", "/", "wild"),
    ("ashop.com", "/", "fallback"),
    ("www.shop.com", "/a", "slash"),
    ("www.shop.com", "/a/b", "slash"),
    ("www.shop.com", "/ab", "404"),
    ("www.shop.com", "/impl/x", "impl"),
    ("exact.com", "/foo/", "exact"),
    ("exact.com", "/foo", "404"),
    ("exact.com", "/foo/x", "404"),
    ("exact.com", "/foo/bar/x", "longest"),
    ("exact.com", "/b", "exact"),
    ("exact.com", "/b/", "foo"),
    ("exact.com", "/with%20space/x", "root"),
    ("slashed.com", "/foo", "root"),
    ("slashed.com", "/foo/", "exact"),
    ("sick.com", "/", "503"),
    ("sick.com", "/none/", "503"),
    ("defaulted.com", "/only", "exact"),
    ("defaulted.com", "/other", "fallback"),
    ("nobody.com", "/", "fallback"),
]


class Backend(http.server.BaseHTTPRequestHandler):
    """Answers with the name of the port it was asked on, and with what nginx told it of the client."""

    names: dict[int, str] = {}

    def do_GET(self) -> None:
        body = self.names[self.server.server_address[1]].encode()  # type: ignore[index]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        for word in ("X-Forwarded-For", "X-Original-Forwarded-For", "Host"):
            self.send_header(f"Saw-{word}", self.headers.get(word, ""))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[str, int]]:
    servers = {name: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) for name in NAMES}
    ports = {name: int(server.server_address[1]) for name, server in servers.items()}
    Backend.names = {port: name for name, port in ports.items()}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield ports
    for server in servers.values():
        server.shutdown()
        server.server_close()


class Front:
    """nginx on a Unix socket."""

    def __init__(self, directory: Path) -> None:
        program = nginx_program()
        assert program is not None, MISSING
        self.directory, self.nginx = directory, Nginx(directory, program)

    def use(self, wanted: Routes) -> str:
        at = f"unix:{self.directory}"
        text = render(
            wanted,
            directory=str(self.directory),
            log=str(self.directory / "access.log"),
            http=[f"{at}/http"],
            status=[f"{at}/status"],
        )
        self.nginx.use(text)
        return text

    def ask(self, host: str, path: str, *headers: str, name: str = "http") -> tuple[str, str]:
        """The whole head, and the backend's name or the status."""
        lines = [f"GET {path} HTTP/1.0", f"Host: {host}", *headers, "", ""]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self.directory / name))
            sock.sendall("\r\n".join(lines).encode())
            answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        head, _, body = answer.partition("\r\n\r\n")
        status = head.split()[1]
        return head, body if status == "200" else status


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, backends: dict[str, int]) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("nginx")
    directory.chmod(0o755)
    made = Front(directory)
    made.use(routes(world(backends)))
    yield made
    made.nginx.stop()


def world(backends: dict[str, int]) -> list[Obj]:
    objects = [CLASS, YOUNGER, DEFAULTED, SHOP, service("sick"), endpoints("sick", "10.0.0.1", ready=False)]
    for name, port in backends.items():
        objects += [service(name), endpoints(name, "127.0.0.1", port=port)]
    return objects


@pytest.mark.parametrize(("host", "path", "expected"), REQUESTS)
def test_a_request_reaches_the_backend_that_kubernetes_promises(
    front: Front, host: str, path: str, expected: str
) -> None:
    assert front.ask(host, path)[1] == expected


def test_the_backend_hears_who_asked_and_a_client_cannot_say_it_is_another(front: Front) -> None:
    head, _ = front.ask("shop.com", "/", "X-Forwarded-For: 6.6.6.6")
    assert "Saw-X-Forwarded-For: unix:" in head
    assert "Saw-X-Original-Forwarded-For: 6.6.6.6" in head
    assert "Saw-Host: shop.com" in head
    assert "[default_root_80] 127.0.0.1:" in (front.directory / "access.log").read_text()


def test_a_reload_is_over_when_it_returns(front: Front, backends: dict[str, int], tmp_path: Path) -> None:
    before = world(backends)
    for name in ("late", "root") * 3:
        front.use(routes([*before, ingress("moving", rule("moving.com", ("Prefix", "/", name)))]))
        assert front.ask("moving.com", "/")[1] == name
    assert front.ask("x", "/healthz", name="status")[0].startswith("HTTP/1.1 200")


def test_what_nginx_refuses_leaves_in_force_what_was(front: Front, backends: dict[str, int]) -> None:
    front.use(routes(world(backends)))
    with pytest.raises(NginxError, match="unknown directive"):
        front.nginx.use("nonsense;")
    assert front.ask("shop.com", "/foo")[1] == "foo"


EVIL = [
    '/x" { return 200 "owned"; } location "/y',
    "/x\n} server { listen 81; }",
    "/x; return 200 owned",
    "/x{}",
    "/$http_cookie",
    "/x%0areturn",
    "/x%22",
    "/\\",
    "/a b'",
    "no-slash",
    "/x\x00",
]


@pytest.mark.parametrize("path", EVIL)
@pytest.mark.parametrize("kind", ["Exact", "Prefix", "ImplementationSpecific"])
def test_a_path_that_is_more_than_a_path_is_left_out_and_told_and_nobody_else_suffers(
    front: Front, backends: dict[str, int], kind: str, path: str
) -> None:
    evil = ingress("evil", rule("evil.com", (kind, path, "root"), ("Prefix", "/good", "foo")))
    wanted = routes([*world(backends), evil])
    (note,) = (note for note in wanted.notes if note.ingress == ("default", "evil"))
    assert note.reason == "Rejected"
    assert note.message.startswith("spec.rules[0].http.paths[0] is left out: ")
    text = front.use(wanted)
    assert "owned" not in text
    assert "listen 81" not in text
    assert front.ask("evil.com", "/good/x")[1] == "foo"
    assert front.ask("shop.com", "/foo")[1] == "foo"


@pytest.mark.parametrize("host", ['a"; return 200;', "a b", "a;b", "~^.*$", "a\nb", "*", "*.*.com", "A.com"])
def test_a_host_that_is_no_name_is_left_out_and_told(backends: dict[str, int], host: str) -> None:
    wanted = routes([CLASS, ingress("evil", rule(host, ("Prefix", "/", "root")))])
    assert wanted.servers == ()
    assert "is no host name" in wanted.notes[0].message


def test_the_older_ingress_wins_and_the_younger_is_told(backends: dict[str, int]) -> None:
    notes = [note.message for note in routes(world(backends)).notes if note.ingress[1] == "younger"]
    assert notes == [
        "spec.rules[0].http.paths[0] is left out: shop.com/foo belongs to Ingress default/shop already"
    ]


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"class": "other"}, False),
        ({"class": None}, False),
        ({"class": None, "annotation": "nginx"}, True),
        ({"class": None, "annotation": "traefik"}, False),
        ({"class": None, "default": "true"}, True),
    ],
)
def test_only_ingresses_of_this_class_are_served(change: Obj, ours: bool) -> None:
    one = ingress("one", rule("a.com", ("Prefix", "/", "root")))
    known = {**CLASS, "metadata": {"name": "nginx", "annotations": {}}}
    if "class" in change:
        one["spec"]["ingressClassName"] = change["class"]
    if "annotation" in change:
        one["metadata"]["annotations"] = {"kubernetes.io/ingress.class": change["annotation"]}
    if "default" in change:
        known["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"] = change["default"]
    assert bool(routes([known, one]).servers) is ours


def test_upstreams_are_the_ready_endpoints_of_the_port_that_was_named() -> None:
    one = ingress("one", rule("a.com", ("Prefix", "/", "two")))
    one["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = {"name": "admin"}
    both = service("two")
    both["spec"]["ports"].append({"name": "admin", "port": 81})
    slices = [
        endpoints("two", "10.0.0.1", "10.0.0.2", port=9000, word="admin"),
        endpoints("two", "10.0.0.1", port=8080),
        endpoints("two", "10.0.0.3", port=9000, ready=False, word="admin"),
        endpoints("two", "fd00::1", port=9000, word="admin"),
    ]
    found = routes([CLASS, one, both, *slices]).upstreams
    assert found == {"default_two_admin": ("10.0.0.1:9000", "10.0.0.2:9000")}
    only = routes([CLASS, one, both, slices[3]]).upstreams
    assert only == {"default_two_admin": ("[fd00::1]:9000",)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "nobody"}, "there is no Service nobody; it answers 503"),
        ({"port": {"name": "nix"}}, "Service root has no port nix; it answers 503"),
    ],
)
def test_a_backend_that_is_not_there_answers_503_and_is_told(change: Obj, message: str) -> None:
    one = ingress("one", rule("a.com", ("Prefix", "/", "root")))
    one["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"] |= change
    wanted = routes([CLASS, one, service("root"), endpoints("root", "10.0.0.1")])
    assert [note.message for note in wanted.notes] == [f"spec.rules[0].http.paths[0]: {message}"]
    assert "return 503" in render(wanted, directory="/x")


def test_what_is_not_done_is_said() -> None:
    one = ingress("one", rule("a.com", ("Prefix", "/", "root")), tls=[{"hosts": ["a.com"]}])
    one["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/rewrite-target": "/"}
    said = [note.message for note in routes([CLASS, one, service("root")]).notes]
    assert said[0] == "nothing here acts on nginx.ingress.kubernetes.io/rewrite-target"
    assert said[1].startswith("spec.tls: this controller reads no Secrets")


def test_nginx_and_the_pure_match_agree(front: Front, backends: dict[str, int]) -> None:
    wanted = routes(world(backends))
    front.use(wanted)
    (shop,) = (server for server in wanted.servers if server.host == "exact.com")
    for path in ("/foo", "/foo/", "/foo/bar", "/foo/bar/", "/foo/barr", "/b", "/b/", "/bb", "/"):
        found = match(shop.locations, path)
        expected = found.upstream.split("_")[1] if found else "404"
        assert front.ask("exact.com", path)[1] == expected
