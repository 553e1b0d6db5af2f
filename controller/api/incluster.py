"""The API as a pod reaches it: over TLS, at the Service ``kubernetes``, with its service account's token.

Environment and files are those every Kubernetes client library looks for (client-go's InClusterConfig).
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from controller.api.client import Client
from controller.api.errors import UserError
from controller.api.transport import Transport

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONNECT_SECONDS = 1.0
"""A first SYN may come before the flows that carry it: better a new one than a retransmission's wait."""
_ALIVE = {
    socket.TCP_KEEPIDLE: 5,
    socket.TCP_KEEPINTVL: 1,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 5000,
}
"""A watch notices in 8 seconds that the API server is no longer where it was, and asks the Service anew."""


class _Connection(http.client.HTTPSConnection):
    def __init__(self, at: tuple[str, int], context: ssl.SSLContext, timeout: float | None) -> None:
        super().__init__(*at, timeout=_CONNECT_SECONDS, context=context)
        self._then = timeout

    def connect(self) -> None:
        super().connect()
        self.timeout = self._then
        self.sock.settimeout(self._then)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _ALIVE.items():
            self.sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def __del__(self) -> None:
        self.close()


class InCluster(Client):
    """A Client for programs in pods. UserError when this is no pod's environment."""

    def __init__(
        self,
        user_agent: str = "podwire",
        *,
        env: Mapping[str, str] = os.environ,
        files: Path = SERVICE_ACCOUNT,
    ) -> None:
        host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT")
        try:
            token = (files / "token").read_text(encoding="utf-8").strip()
            context = ssl.create_default_context(cafile=str(files / "ca.crt"))
        except OSError as error:
            raise UserError(f"no service account at {files}: {error}") from None
        if not host or not port:
            raise UserError("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: not in a pod")
        at = host, int(port)
        super().__init__(f"https://{host}:{port}", user_agent)
        self._transport = Transport(
            f"{host}:{port}",
            user_agent,
            connection=lambda timeout: _Connection(at, context, timeout),
            headers={"Authorization": f"Bearer {token}"},
        )
