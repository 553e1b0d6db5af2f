"""Kubeconfigs as kubectl, clouds and installers write them, and what podwire says of those it cannot use."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.errors import UserError
from topo.mirror_kubeconfig import Access, load


def written(tmp_path: Path, *, cluster: Any = None, user: Any = None, **top: Any) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kind", "cluster": {"server": "https://127.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": "admin", "user": user or {}}],
        "contexts": [
            {"name": "kind-kind", "context": {"cluster": "kind", "user": "admin"}},
            {"name": "broken", "context": {"cluster": "nowhere", "user": "admin"}},
        ],
        "current-context": "kind-kind",
        **top,
    }
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config))
    return file


def data(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_what_kind_writes(tmp_path: Path) -> None:
    user = {"client-certificate-data": data("CERT"), "client-key-data": data("KEY")}
    found = load(written(tmp_path, cluster={"certificate-authority-data": data("CA")}, user=user))
    assert (found.context, found.host, found.port, found.tls) == ("kind-kind", "127.0.0.1", 6443, True)
    assert (found.ca, found.verify) == ("CA", True)
    who = found.credentials()
    assert (who.certificate, who.key, who.token) == ("CERT", "KEY", "")


def test_what_minikube_writes_with_files_beside_it(tmp_path: Path) -> None:
    for name in ("ca.crt", "client.crt", "client.key"):
        (tmp_path / name).write_text(name)
    user = {"client-certificate": "client.crt", "client-key": str(tmp_path / "client.key")}
    found = load(written(tmp_path, cluster={"certificate-authority": "ca.crt"}, user=user))
    assert (found.ca, found.fixed.certificate, found.fixed.key) == ("ca.crt", "client.crt", "client.key")


def test_inline_data_wins_over_a_file_and_a_token_over_its_file(tmp_path: Path) -> None:
    cluster = {"certificate-authority": "nosuch", "certificate-authority-data": data("CA")}
    found = load(written(tmp_path, cluster=cluster, user={"token": "t", "tokenFile": "nosuch"}))
    assert (found.ca, found.credentials().token) == ("CA", "t")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("https://api.example.com", ("api.example.com", 443, True, "")),
        (
            "https://rancher.example.com/k8s/clusters/c-1/",
            ("rancher.example.com", 443, True, "/k8s/clusters/c-1"),
        ),
        ("http://127.0.0.1:8001", ("127.0.0.1", 8001, False, "")),
        ("https://[fd00::1]:6443", ("fd00::1", 6443, True, "")),
    ],
)
def test_servers(tmp_path: Path, server: str, expected: tuple[str, int, bool, str]) -> None:
    found = load(written(tmp_path, cluster={"server": server}))
    assert (found.host, found.port, found.tls, found.prefix) == expected


def test_certificates_may_be_left_unchecked_or_be_of_another_name(tmp_path: Path) -> None:
    cluster = {"insecure-skip-tls-verify": True, "tls-server-name": "kubernetes"}
    found = load(written(tmp_path, cluster=cluster))
    assert (found.verify, found.server_name) == (False, "kubernetes")


def test_credentials_are_not_in_what_is_printed(tmp_path: Path) -> None:
    found = load(written(tmp_path, user={"token": "geheim"}))
    assert "geheim" not in f"{found!r}"


def plugged(tmp_path: Path, script: str, **more: Any) -> Access:
    program = tmp_path / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": str(program), **more}
    return load(written(tmp_path, user={"exec": plugin}))


def test_a_plugin_is_told_of_the_cluster_and_may_give_a_certificate(tmp_path: Path) -> None:
    given = {
        "clientCertificateData": "C",
        "clientKeyData": "K",
        "expirationTimestamp": "2030-01-01T00:00:00Z",
    }
    script = f"echo \"$KUBERNETES_EXEC_INFO\" > $1\necho '{json.dumps({'status': given})}'"
    found = plugged(tmp_path, script, args=[f"{tmp_path}/info"], provideClusterInfo=True)
    who = found.credentials()
    assert (who.certificate, who.key, who.expires) == ("C", "K", datetime(2030, 1, 1, tzinfo=UTC))
    info = json.loads((tmp_path / "info").read_text())
    assert info["apiVersion"] == "client.authentication.k8s.io/v1beta1"
    assert info["spec"] == {"interactive": False, "cluster": {"server": "https://127.0.0.1:6443"}}


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo please log in >&2; exit 3", "ended with exit status 3: please log in"),
        ("echo hello", "printed no ExecCredential"),
    ],
)
def test_a_plugin_that_fails_is_quoted(tmp_path: Path, script: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        plugged(tmp_path, script).credentials()


def test_a_plugin_that_is_missing_says_how_to_get_it(tmp_path: Path) -> None:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "no-such-plugin",
        "installHint": "Get it.",
    }
    with pytest.raises(UserError, match=r"`no-such-plugin` of context kind-kind cannot be run: .* Get it\.$"):
        load(written(tmp_path, user={"exec": plugin})).credentials()


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"cluster": {"proxy-url": "http://p"}}, "asks for a proxy: `proxy-url` is not supported"),
        ({"user": {"username": "u", "password": "p"}}, "`username` is not supported"),
        ({"user": {"as": "somebody"}}, "asks for impersonation"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "an auth provider"),
        ({"cluster": {"server": "6443"}}, "the server `6443` is no http or https URL"),
        ({"cluster": {"certificate-authority": "nosuch"}}, "certificate-authority: cannot read .*nosuch"),
        ({"cluster": {"certificate-authority-data": "%"}}, "certificate-authority-data is not PEM in base64"),
        ({"current-context": ""}, "has no current-context; choose one by --context: kind-kind, broken"),
        ({"current-context": "broken"}, "has no cluster named `nowhere`; there are: kind"),
        ({"clusters": None}, "it names no clusters"),
        ({"user": {"exec": {"apiVersion": "v0", "command": "x"}}}, "apiVersion v0 is not supported"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path: Path, parts: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        load(written(tmp_path, **parts))


def test_files_that_are_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"kubeconfig: cannot read .*: No such file"):
        load(tmp_path / "nosuch")
    (tmp_path / "text").write_text("a: [")
    with pytest.raises(UserError, match="not a kubeconfig"):
        load(tmp_path / "text")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not text"):
        load(tmp_path / "binary")
    with pytest.raises(UserError, match="has no context named `x`; there are: kind-kind, broken"):
        load(written(tmp_path), "x")
