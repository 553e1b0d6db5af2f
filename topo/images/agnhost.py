"""registry.k8s.io/e2e-test-images/agnhost: the ``netexec`` server of Kubernetes' own network tests.

Its answers are what e2e tests and tutorials expect of /, /hostname, /clientip, /echo, /healthz,
/exit and of the UDP commands. /shell is refused: use exec. Other subcommands: ``pause`` idles,
``serve-hostname`` answers the hostname, anything else ends the container with code 1.
"""

from __future__ import annotations

from datetime import UTC, datetime

from topo.images.image import Container
from topo.images.light import Host
from topo.images.peer import Peer, shown
from topo.images.web import Request, Response, not_found

_SHELL_OFF = "/shell is off in podwire: run the command with exec in the pod\n"


class Agnhost:
    def __init__(self, container: Container) -> None:
        args = container.args
        if container.argv and container.argv[0] in ("/agnhost", "agnhost"):
            args = container.argv[1:]  # the image's own entrypoint, spelled out as ``command``
        args = args or ("pause",)
        self._subcommand, self._options = args[0], options(args[1:])
        self._hostname = container.hostname or container.pod
        self._host: Host | None = None

    async def serve(self, host: Host) -> None:
        self._host = host
        try:
            if self._subcommand == "netexec":
                await host.http(self._port("http-port", 8080), self.answer)
                udp = self._port("udp-port", 8081)
                if udp >= 0:
                    await host.udp(udp, self.datagram)
                sctp = self._port("sctp-port", -1)
                if sctp >= 0:
                    await host.sctp(sctp, self.datagram)
            elif self._subcommand == "serve-hostname":
                await host.http(self._port("port", 9376), self.say_hostname)
            elif self._subcommand != "pause":
                host.exit(1, f'unknown command "{self._subcommand}" for "agnhost"')
        except ValueError as error:
            host.exit(1, str(error))

    def _port(self, name: str, default: int) -> int:
        text = self._options.get(name, str(default))
        if not text.lstrip("-").isdigit():
            raise ValueError(f'invalid argument "{text}" for "--{name}" flag')
        return int(text)

    async def say_hostname(self, request: Request) -> Response:
        return Response(body=self._hostname)

    async def answer(self, request: Request) -> Response:
        query = request.query
        match request.path:
            case "/":
                return Response(body=f"NOW: {datetime.now(UTC)}")
            case "/hostname" | "/hostName":
                return Response(body=self._hostname)
            case "/clientip":
                return Response(body=shown(request.peer))
            case "/echo":
                code = query.get("code", "200")
                status = int(code) if code.isdigit() and 200 <= int(code) <= 599 else 200
                return Response(body=query.get("msg", ""), status=status)
            case "/healthz":
                return Response(body="")
            case "/header":
                return Response(body=request.headers.get(query.get("key", ""), ""))
            case "/exit":
                code = query.get("code", "0")
                number = int(code) if code.isdigit() else 0
                return Response(then=lambda: self._exit(number))
            case "/shell" | "/dial" | "/upload":
                return Response(body=_SHELL_OFF, status=403)
        return not_found()

    def _exit(self, code: int) -> None:
        assert self._host is not None
        self._host.exit(code & 0xFF)

    def datagram(self, data: bytes, peer: Peer) -> bytes | None:
        command, _, rest = data.decode(errors="replace").strip().partition(" ")
        match command.lower():
            case "hostname":
                return self._hostname.encode()
            case "clientip":
                return shown(peer).encode()
            case "echo":
                return rest.encode()
        return None


def options(args: tuple[str, ...]) -> dict[str, str]:
    """``--name=value`` and ``--name value`` flags; a flag without value is "true"."""
    found: dict[str, str] = {}
    words = list(args)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals and words and not words[0].startswith("--"):
            value = words.pop(0)
        found[name] = value or "true"
    return found


def program(container: Container) -> Agnhost:
    return Agnhost(container)
