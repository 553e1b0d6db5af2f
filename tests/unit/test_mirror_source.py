"""The API that a mirror follows, at its most unhelpful: pages, stale tokens, gateways before dead servers."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.api.client import Batch, Informer
from controller.api.errors import Forbidden, Unauthorized, Unreachable, UserError
from controller.api.objects import Obj
from tests.unit.mirror_kit import Api, access, line, pod, pods, refusal
from topo import mirror_source
from topo.mirror_source import Source


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_source, "_PACE", 0.0)


def followed(source: Source, enough: Callable[[list[str]], bool]) -> list[str]:
    """The events of an informer of Pods until they are enough."""
    seen: list[str] = []
    done = threading.Event()

    def handle(batch: Batch) -> None:
        seen.extend(f"{event.type} {event.obj['metadata']['name']}" for event in batch.events)
        if enough(seen):
            done.set()

    informer = Informer(source, ["Pod"], handle).start()
    try:
        assert done.wait(10), seen
    finally:
        informer.stop()
    return seen


def test_a_list_comes_in_pages_and_without_what_is_not_played(api: Api, tmp_path: Path) -> None:
    api.lists = [pods("a", "b", more="further"), pods("c", version="6")]
    found, version = Source(access(api, tmp_path)).list("Pod", "shop")
    assert [one["metadata"]["name"] for one in found] == ["a", "b", "c"]
    assert version == "6"
    assert "hunter2" not in str(found)
    assert {one["kind"] for one in found} == {"Pod"}
    assert [(path, query) for path, query, _ in api.asked] == [
        ("/api/v1/namespaces/shop/pods", {"limit": "500"}),
        ("/api/v1/namespaces/shop/pods", {"limit": "500", "continue": "further"}),
    ]


def test_a_server_may_live_below_a_path(api: Api, tmp_path: Path) -> None:
    Source(access(api, tmp_path, {"server": f"{api.url}/k8s/clusters/c-1/"})).list("Pod")
    assert api.asked[0][0] == "/k8s/clusters/c-1/api/v1/pods"


def test_changes_bookmarks_and_a_watch_that_ends_are_followed(api: Api, tmp_path: Path) -> None:
    api.lists = [pods("a")]
    bookmark = {"metadata": {"resourceVersion": "9"}}
    api.watches = [
        (200, [line("ADDED", pod("b", "6")), line("BOOKMARK", bookmark)]),
        (200, [line("MODIFIED", pod("b", "10")), line("DELETED", pod("a", "11"))]),
    ]
    seen = followed(Source(access(api, tmp_path)), lambda seen: len(seen) == 4)
    assert seen == ["ADDED a", "ADDED b", "MODIFIED b", "DELETED a"]
    since = [query["resourceVersion"] for _, query, _ in api.asked if query.get("watch")]
    assert since[:2] == ["5", "9"], "the second goes on from the bookmark"


def test_a_past_that_is_gone_is_listed_again(api: Api, tmp_path: Path) -> None:
    api.lists = [pods("a", "b"), pods("b", "c", version="20")]
    gone = {
        "type": "ERROR",
        "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"},
    }
    api.watches = [(200, [gone])]
    seen = followed(Source(access(api, tmp_path)), lambda seen: len(seen) == 4)
    assert seen == ["ADDED a", "ADDED b", "ADDED c", "DELETED a"]


def test_a_page_whose_past_is_gone_begins_the_list_anew(api: Api, tmp_path: Path) -> None:
    api.lists = [pods("a", more="further"), refusal(410), pods("a", "b")]
    assert followed(Source(access(api, tmp_path)), lambda seen: len(seen) == 2) == ["ADDED a", "ADDED b"]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_passes_is_waited_for_and_said_once(api: Api, tmp_path: Path, code: int) -> None:
    told: list[str] = []
    source = Source(access(api, tmp_path), told.append)
    source.list("Pod")
    api.lists = [refusal(code, "busy"), refusal(code, "busy"), pods("a")]
    assert followed(source, lambda seen: len(seen) == 1) == ["ADDED a"]
    assert told == ["! busy; trying again", "  it answers again"]


def test_a_token_that_is_refused_is_read_again_from_its_file(api: Api, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    source = Source(access(api, tmp_path, tokenFile="token"))
    source.list("Pod")
    token.write_text("new\n")
    api.lists = [refusal(401), pods("a")]
    assert len(source.list("Pod")[0]) == 1
    assert [token for _, _, token in api.asked] == ["Bearer old", "Bearer old", "Bearer new"]


def test_a_plugin_is_asked_again_when_its_token_is_refused(api: Api, tmp_path: Path) -> None:
    program = tmp_path / "plugin"
    program.write_text(
        '#!/bin/sh\necho x >> "$0.count"\n'
        'echo "{\\"status\\": {\\"token\\": \\"$1-$PLUGIN-$(wc -l < "$0.count")\\"}}"\n'
    )
    program.chmod(0o755)
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "args": ["a"],
              "env": [{"name": "PLUGIN", "value": "b"}]}  # fmt: skip
    source = Source(access(api, tmp_path, exec=plugin))
    source.list("Pod")
    api.lists = [refusal(401), pods()]
    source.list("Pod")
    assert [token for _, _, token in api.asked] == ["Bearer a-b-1", "Bearer a-b-1", "Bearer a-b-2"]


def test_a_fixed_token_that_is_refused_and_a_right_that_is_missing_are_final(
    api: Api, tmp_path: Path
) -> None:
    source = Source(access(api, tmp_path))
    api.lists = [refusal(401)]
    with pytest.raises(Unauthorized):
        source.list("Pod")
    api.lists = [refusal(403, "pods is forbidden")]
    with pytest.raises(Forbidden, match="pods is forbidden"):
        source.list("Pod")
    assert len(api.asked) == 2


def test_nobody_there_is_one_sentence(api: Api, tmp_path: Path) -> None:
    at = access(api, tmp_path)
    api.close()
    with pytest.raises(
        Unreachable, match=r"^the API server does not answer at 127.0.0.1:\d+: Connection refused$"
    ):
        Source(at).list("Pod")


def test_a_source_cannot_be_written_to(api: Api, tmp_path: Path) -> None:
    source = Source(access(api, tmp_path))
    writes: list[Callable[[], Obj]] = [
        lambda: source.create({"kind": "Pod", "apiVersion": "v1", **pod("a")}),
        lambda: source.update({"kind": "Pod", "apiVersion": "v1", **pod("a")}),
        lambda: source.patch("Pod", "a", {}),
        lambda: source.delete("Pod", "a"),
    ]
    for write in writes:
        with pytest.raises(AssertionError, match="only read"):
            write()
    assert api.asked == []


def certificate(name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None) -> Any:
    """(certificate, key) of 127.0.0.1, by ``issuer`` or itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
    )
    return made.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(part: Any) -> str:
    if isinstance(part, x509.Certificate):
        return part.public_bytes(serialization.Encoding.PEM).decode()
    kind, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return str(part.private_bytes(serialization.Encoding.PEM, kind, none).decode())


def test_a_client_certificate_is_shown_and_the_servers_is_checked(tmp_path: Path) -> None:
    ca = certificate("ca")
    server, client = certificate("server", ca), certificate("client", ca)
    (tmp_path / "server").write_text(pem(server[0]) + pem(server[1]))
    (tmp_path / "ca").write_text(pem(ca[0]))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca"))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(tmp_path / "server")
    api = Api(tls)
    (tmp_path / "client").write_text(pem(client[0]))
    (tmp_path / "key").write_text(pem(client[1]))
    shown = {"client-certificate": "client", "client-key": "key"}
    try:
        assert (
            Source(access(api, tmp_path, cluster={"certificate-authority": "ca"}, **shown)).list("Pod")[0]
            == []
        )
        (tmp_path / "other").write_text(pem(certificate("other")[0]))
        with pytest.raises(Unreachable, match="does not prove to be the API server"):
            Source(access(api, tmp_path, cluster={"certificate-authority": "other"}, **shown)).list("Pod")
        unchecked = {"insecure-skip-tls-verify": True}
        assert Source(access(api, tmp_path, cluster=unchecked, **shown)).list("Pod")[0] == []
    finally:
        api.close()
    mixed = {**shown, "client-key": "server"}
    with pytest.raises(UserError, match="do not belong together"):
        Source(access(api, tmp_path, cluster={"certificate-authority": "ca"}, **mixed)).list("Pod")
