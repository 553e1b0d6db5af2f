"""The ingress controller's process: follow the API, keep nginx' configuration, fill in the Ingresses' status.

``python -m controller.ingress.app`` in a pod, with ingress-nginx' own arguments (those that it knows not
it leaves alone). Everything it reads comes through the Service ``kubernetes``, with its own token.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.api.client import Batch, Client, Informer
from controller.api.errors import ApiError, NotFound, PodwireError, Unreachable, UserError
from controller.api.incluster import InCluster
from controller.api.objects import Obj
from controller.ingress.nginx import Nginx, NginxError
from controller.ingress.render import render
from controller.ingress.routes import KINDS, Note, Routes, name_of, routes

COMPONENT = "nginx-ingress-controller"
_REPORTS, _REPORT_AGAIN = 10, 0.5
_SHOWN = 8
"""So many hosts a line of the log names."""


class App:
    """``publish`` is (namespace, name) of the Service whose external addresses are the Ingresses' too."""

    def __init__(
        self, client: Client, nginx: Nginx, *, component: str, publish: tuple[str, str] | None = None
    ) -> None:
        self._client, self._nginx, self._publish, self._component = client, nginx, publish, component
        self._text = self._asked = ""
        self._left_out: tuple[Note, ...] = ()
        self._said: set[Note] = set()
        self.failed = threading.Event()
        self._informer = Informer(client, KINDS, self._on_batch, on_error=self._fail)

    def start(self) -> App:
        self._informer.start()
        return self

    def stop(self) -> None:
        self._informer.stop()
        self._nginx.stop()

    def look(self) -> None:
        """An nginx that ended unasked ends all of us: the kubelet starts the container again."""
        code = self._nginx.ended()
        if code is not None:
            self._fail(NginxError(f"nginx has ended with {code}"))

    def _fail(self, error: BaseException) -> None:
        say("ERROR", f"{type(error).__name__}: {error}")
        self.failed.set()

    def _on_batch(self, batch: Batch) -> None:
        objects = list(self._informer.store.values())
        wanted = self._configure(objects)
        self._tell(wanted)
        self._statuses(wanted.ingresses, objects)
        for _ in range(_REPORTS):
            if self._client.progress(self._component, batch.resource_version):
                return
            threading.Event().wait(_REPORT_AGAIN)

    # -- nginx

    def _configure(self, objects: Sequence[Obj]) -> Routes:
        """Have nginx do what the objects ask for, without the Ingresses that it does not take."""
        wanted = routes(objects)
        text = self._render(wanted)
        if text != self._asked:
            self._left_out = ()
            try:
                self._use(wanted, text)
            except NginxError as error:
                say("ERROR", f"nginx refuses the configuration: {error}; trying the Ingresses one by one")
                self._left_out = tuple(self._one_by_one(objects, wanted))
            self._asked = text
        return replace(wanted, notes=(*wanted.notes, *self._left_out))

    def _render(self, wanted: Routes) -> str:
        return render(wanted, directory=str(self._nginx.directory))

    def _use(self, wanted: Routes, text: str) -> None:
        if text == self._text:
            return
        first = not self._text
        self._nginx.use(text)
        self._text = text
        names = [server.host or "*" for server in wanted.servers]
        hosts = ", ".join(names) if len(names) <= _SHOWN else f"{len(names)} hosts"
        say("INFO", f"nginx {'started' if first else 'reloaded'}: {hosts or 'no Ingress'}")

    def _one_by_one(self, objects: Sequence[Obj], wanted: Routes) -> Iterator[Note]:
        """No Ingress may be in the others' way, whatever nginx has against it: it is left out, and told."""
        out = [name_of(ingress) for ingress in wanted.ingresses]
        for name in list(out):
            out.remove(name)
            text = self._render(routes(objects, without=out))
            try:
                self._nginx.test(text)
            except NginxError as error:
                out.append(name)
                yield Note(ingress=name, reason="Rejected", message=f"is left out: nginx says {error}")
        made = routes(objects, without=out)
        self._use(made, self._render(made))

    # -- what the Ingresses are told

    def _tell(self, wanted: Routes) -> None:
        held = {name_of(ingress): ingress for ingress in wanted.ingresses}
        for note in wanted.notes:
            if note not in self._said:
                say("WARN", f"Ingress {'/'.join(note.ingress)}: {note.message}")
                self._ask(
                    lambda note=note: self._client.event(
                        held[note.ingress], note.reason, note.message, type="Warning", component=COMPONENT
                    )
                )
        self._said = set(wanted.notes)

    def _statuses(self, ingresses: Iterable[Obj], objects: Iterable[Obj]) -> None:
        if self._publish is None:
            return
        found = [o for o in objects if o["kind"] == "Service" and name_of(o) == self._publish]
        addresses = [_address(one) for service in found for one in _load_balancer(service)]
        for ingress in ingresses:
            if _load_balancer(ingress) != addresses:
                namespace, name = name_of(ingress)
                status = {"status": {"loadBalancer": {"ingress": addresses or None}}}
                self._ask(
                    lambda name=name, namespace=namespace, status=status: self._client.patch(
                        "Ingress", name, status, namespace, subresource="status"
                    )
                )
                shown = ", ".join(one.get("ip") or one.get("hostname", "") for one in addresses)
                say("INFO", f"Ingress {namespace}/{name}: its address is {shown or 'none any more'}")

    def _ask(self, call: Any) -> None:
        """A word to the API server, which may be away or have lost the Ingress meanwhile."""
        try:
            call()
        except (NotFound, Unreachable):
            pass
        except ApiError as error:
            say("ERROR", str(error))


def _load_balancer(obj: Obj) -> list[Obj]:
    found: list[Obj] = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return found


def _address(one: Obj) -> Obj:
    """What an Ingress' status takes over of a Service's."""
    return {word: one[word] for word in ("ip", "hostname") if one.get(word)}


def say(level: str, text: str) -> None:
    print(f"[{level}] {text}", flush=True)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="nginx-ingress-controller", description=__doc__)
    made.add_argument("--publish-service", default="", help="NAMESPACE/NAME of the controller's own Service")
    made.add_argument("--api", help="the API server's Unix socket (default: as a pod, over TLS)")
    made.add_argument("--directory", default="/tmp/nginx", help="where nginx keeps its files")
    made.add_argument("--nginx", default="nginx", help="the program")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    os.environ.pop("LD_PRELOAD", None)  # upstream's allocator, which is not here
    arguments, others = parser().parse_known_args(argv)
    ignored = [word for word in others if word.startswith("-")]
    if ignored:
        say("INFO", f"not known here, left alone: {' '.join(ignored)}")
    namespace, _, name = arguments.publish_service.partition("/")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        client = Client(arguments.api, COMPONENT) if arguments.api else InCluster(COMPONENT)
        app = App(
            client,
            Nginx(Path(arguments.directory), arguments.nginx),
            component=f"ingress/{os.environ.get('HOSTNAME', socket.gethostname())}",
            publish=(namespace, name) if name else None,
        ).start()
        while not ended.wait(0.2) and not app.failed.is_set():
            app.look()
        app.stop()
    except (PodwireError, UserError) as error:
        say("ERROR", str(error))
        return 2
    return 1 if app.failed.is_set() else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the informer's threads may sit in a read
