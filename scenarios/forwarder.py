"""A small port-forward: a port on client1's localhost that leads, through the API server, into one pod.

As with ``kubectl port-forward service/NAME`` the Service only serves to find a pod, once; as there, all
bytes go through the API server, and when the pod is gone so is the forward. HTTP only: it uses the
``proxy`` subresource of pods. What that means for Services is told in the lesson.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING

from controller.api.objects import is_ready
from controller.api.selectors import selector_text
from topo.lab_state import API

if TYPE_CHECKING:
    from topo.lab import Lab


class ToApi(http.client.HTTPConnection):
    """HTTP to the API server's Unix socket, as the cluster's administrator."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Forwarder:
    """``with`` closes the port. ``open`` finds the pod and begins to listen."""

    def __init__(self, lab: Lab, service: str, port: int) -> None:
        self._lab, self._service, self._port = lab, service, port
        self._listener: socket.socket | None = None
        self.pod = self.address = self.last_words = ""

    def open(self) -> str:
        """Choose the first pod of the Service, listen, and say so as kubectl does."""
        service = self._lab.client.get("Service", self._service)
        selector = selector_text({"matchLabels": service["spec"]["selector"]})
        found = self._lab.client.list("Pod", "default", labels=selector)[0]
        first = next(pod for pod in found if is_ready(pod))
        self.pod, self.address = first["metadata"]["name"], first["status"]["podIP"]
        self._listener = self._lab.outside().socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self._port))
        self._listener.listen(16)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return f"Forwarding from 127.0.0.1:{self._port} -> {self._port} (pod {self.pod}, {self.address})"

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        """One request, one answer; closing without one is what a dead forward says."""
        with near, contextlib.suppress(OSError):
            near.settimeout(20)
            head = b""
            while b"\r\n\r\n" not in head:
                more = near.recv(4096)
                if not more:
                    return
                head += more
            method, path = head.decode(errors="replace").split(" ", 2)[:2]
            answer = self._through_the_api(method, path)
            if answer is not None:
                near.sendall(answer)

    def _through_the_api(self, method: str, path: str) -> bytes | None:
        """The pod's answer, by the API server; None, and ``last_words``, when there is none."""
        url = f"/api/v1/namespaces/default/pods/{self.pod}:{self._port}/proxy{path}"
        connection = ToApi(str(self._lab.run_dir / API))
        try:
            connection.request(method, url)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.last_words = f"error: lost connection to the API server: {error}"
            return None
        finally:
            connection.close()
        pod = answer.getheader("X-Podwire-Pod")
        if pod is None:  # not the pod's answer but the API server's own
            self.last_words = f"error: lost connection to pod: {json.loads(body)['message']}"
            return None
        head = [
            f"HTTP/1.1 {answer.status} {answer.reason}",
            f"Content-Type: {answer.getheader('Content-Type')}",
            f"Content-Length: {len(body)}",
            f"X-Podwire-Pod: {pod}",
            "Connection: close",
        ]
        return ("\r\n".join([*head, "", ""])).encode() + body
