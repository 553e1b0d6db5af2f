"""A kubeconfig, read: where an API answers, whom to trust there, and what to say who we are.

All that kubectl's own files hold is understood (files and inline data, tokens, client certificates, exec
plugins); what is not (a proxy, impersonation, passwords) is refused by its name instead of being passed
over. Nothing is asked over the network here; an exec plugin may do that by itself. Kubernetes' own Python
client reads these files too, for 126 MB of models; a mirror lists and watches four kinds, as plain JSON.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from controller.api.errors import UserError

_CREDENTIALS = "client.authentication.k8s.io/"
_PLUGIN_TIMEOUT = 60.0
_REFUSED_CLUSTER = {"proxy-url": "a proxy"}
_REFUSED_USER = {
    "as": "impersonation",
    "as-user-extra": "impersonation",
    "auth-provider": "an auth provider (Kubernetes 1.26 took them away; exec plugins took their place)",
    "username": "a password (Kubernetes 1.19 took them away)",
}


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """``users[].user.exec``: a program that prints an ExecCredential."""

    api_version: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    hint: str = ""
    cluster_info: Mapping[str, Any] | None = None
    """What the plugin is told of the cluster, if it asked (``provideClusterInfo``)."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Who we say we are: a bearer token, a certificate with its key (PEM), or neither."""

    token: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Access:
    """One context of a kubeconfig. ``host`` and ``port`` are where to connect, ``prefix`` leads every path
    there, ``server_name`` is the name in the certificate if it is another one. ``ca`` (PEM) "" means those
    the machine trusts."""

    context: str
    server: str
    host: str
    port: int
    tls: bool
    prefix: str = ""
    server_name: str = ""
    ca: str = field(default="", repr=False)
    verify: bool = True
    fixed: Credentials = Credentials()
    token_file: Path | None = None
    plugin: Plugin | None = None

    def credentials(self) -> Credentials:
        """Those of now: a file that is renewed is read again, a plugin is asked again. UserError if not."""
        if self.plugin is not None:
            return _ask(self.plugin, self.context)
        if self.token_file is not None:
            token = _text(self.token_file, f"tokenFile of context {self.context}").strip()
            return Credentials(token=token, certificate=self.fixed.certificate, key=self.fixed.key)
        return self.fixed


def load(path: str | Path, context: str | None = None) -> Access:
    """The access of a context (else the current one) of a file; UserError in one sentence."""
    file = Path(path).expanduser()
    try:
        data = yaml.safe_load(_text(file, "kubeconfig"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not a kubeconfig: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("clusters"), list):
        raise UserError(f"{path}: not a kubeconfig: it names no clusters")
    reader = _Reader(data, file)
    name = context or str(data.get("current-context") or "")
    if not name:
        raise UserError(f"{path} has no current-context; choose one by --context: {reader.names('contexts')}")
    return reader.access(name)


class _Reader:
    def __init__(self, data: Mapping[str, Any], file: Path) -> None:
        self._data, self._file = data, file

    def names(self, part: str) -> str:
        return ", ".join(str(entry.get("name")) for entry in self._entries(part)) or "there are none"

    def access(self, name: str) -> Access:
        chosen = self._named("contexts", name)
        cluster = self._named("clusters", str(chosen.get("cluster") or ""))
        user = self._named("users", str(chosen["user"])) if chosen.get("user") else {}
        for part, refused in ((cluster, _REFUSED_CLUSTER), (user, _REFUSED_USER)):
            for word in refused:
                if part.get(word):
                    raise UserError(
                        f"{self._file}: context {name} asks for {refused[word]}: `{word}` is not supported"
                    )
        server = str(cluster.get("server") or "")
        parts = urlsplit(server)
        try:
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if parts.scheme not in ("http", "https") or not host:
            raise UserError(f"{self._file}: context {name}: the server `{server}` is no http or https URL")
        tls = parts.scheme == "https"
        return Access(
            context=name,
            server=server.rstrip("/"),
            host=host,
            port=port or (443 if tls else 80),
            tls=tls,
            prefix=parts.path.rstrip("/"),
            server_name=str(cluster.get("tls-server-name") or ""),
            ca=self._pem(cluster, "certificate-authority"),
            verify=not cluster.get("insecure-skip-tls-verify"),
            fixed=Credentials(
                token=str(user.get("token") or ""),
                certificate=self._pem(user, "client-certificate"),
                key=self._pem(user, "client-key"),
            ),
            token_file=self._beside(user["tokenFile"])
            if user.get("tokenFile") and not user.get("token")
            else None,
            plugin=self._plugin(user["exec"], cluster) if user.get("exec") else None,
        )

    def _plugin(self, data: Mapping[str, Any], cluster: Mapping[str, Any]) -> Plugin:
        version, command = str(data.get("apiVersion") or ""), str(data.get("command") or "")
        if version not in (_CREDENTIALS + "v1", _CREDENTIALS + "v1beta1"):
            raise UserError(f"{self._file}: exec plugin {command}: apiVersion {version} is not supported")
        if data.get("interactiveMode") == "Always":
            raise UserError(f"{self._file}: exec plugin {command} wants to talk to a user; podwire is none")
        env = {str(entry["name"]): str(entry["value"]) for entry in data.get("env") or ()}
        if "/" in command:
            command = str(self._beside(command))
        return Plugin(
            api_version=version,
            argv=(command, *(str(word) for word in data.get("args") or ())),
            env=env,
            hint=str(data.get("installHint") or ""),
            cluster_info=self._cluster_info(cluster) if data.get("provideClusterInfo") else None,
        )

    def _cluster_info(self, cluster: Mapping[str, Any]) -> Mapping[str, Any]:
        ca = self._pem(cluster, "certificate-authority")
        extensions = {entry.get("name"): entry.get("extension") for entry in cluster.get("extensions") or ()}
        made = {
            "server": cluster.get("server"),
            "tls-server-name": cluster.get("tls-server-name"),
            "insecure-skip-tls-verify": cluster.get("insecure-skip-tls-verify"),
            "certificate-authority-data": base64.b64encode(ca.encode()).decode() if ca else None,
            "config": extensions.get(_CREDENTIALS + "exec"),
        }
        return {word: value for word, value in made.items() if value is not None}

    def _pem(self, part: Mapping[str, Any], word: str) -> str:
        """Inline data wins over a file, as in client-go."""
        if part.get(f"{word}-data"):
            try:
                return base64.b64decode(str(part[f"{word}-data"]), validate=True).decode()
            except ValueError:
                raise UserError(f"{self._file}: {word}-data is not PEM in base64") from None
        return _text(self._beside(part[word]), word) if part.get(word) else ""

    def _beside(self, path: Any) -> Path:
        """Relative paths are relative to the kubeconfig."""
        return self._file.parent / Path(str(path)).expanduser()

    def _entries(self, part: str) -> list[Mapping[str, Any]]:
        return [entry for entry in self._data.get(part) or () if isinstance(entry, dict)]

    def _named(self, part: str, name: str) -> Mapping[str, Any]:
        for entry in self._entries(part):
            if entry.get("name") == name:
                found = entry.get(part.removesuffix("s")) or {}
                return found if isinstance(found, dict) else {}
        raise UserError(
            f"{self._file} has no {part.removesuffix('s')} named `{name}`; there are: {self.names(part)}"
        )


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{what}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what}: {path} is not text") from None


def _ask(plugin: Plugin, context: str) -> Credentials:
    """Run an exec plugin as client-go does: KUBERNETES_EXEC_INFO in, ExecCredential on stdout."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster_info is not None:
        spec["cluster"] = plugin.cluster_info
    info = json.dumps({"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec})
    environment = {**os.environ, **plugin.env, "KUBERNETES_EXEC_INFO": info}
    what = f"the exec plugin `{plugin.argv[0]}` of context {context}"
    try:
        done = subprocess.run(
            plugin.argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_PLUGIN_TIMEOUT, check=False,
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"{what} cannot be run: {error.strerror}. {plugin.hint}".strip()) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{what} did not end within {_PLUGIN_TIMEOUT:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise UserError(f"{what} ended with exit status {done.returncode}: {last}")
    try:
        status = json.loads(done.stdout)["status"]
        expires = status.get("expirationTimestamp")
        return Credentials(
            token=status.get("token") or "",
            certificate=status.get("clientCertificateData") or "",
            key=status.get("clientKeyData") or "",
            expires=datetime.fromisoformat(expires).astimezone(UTC) if expires else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{what} printed no ExecCredential with a status") from None
