"""The words the kubelet, the runtime and the images share: what a container is, what an image is.

Values only. Which image name means which image is in ``table``; nothing here opens a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Port:
    """One entry of ``containers[].ports``."""

    number: int
    protocol: str = "TCP"
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One of a pod's volumes: ``files`` by path with their modes or, with ``shared``, a directory of that
    name that the pod's containers share, of ``size`` bytes at most."""

    name: str
    shared: str = ""
    size: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One entry of ``containers[].volumeMounts``."""

    volume: str
    path: str
    sub_path: str = ""
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Container:
    """What the kubelet hands to the runtime: one container, everything resolved.

    ``netns`` is a path; ``files`` are the pod's own files below /etc by absolute path; ``argv`` is
    the manifest's command and args after expansion (``command`` says how many of them are the command).
    """

    id: str
    name: str
    image: str
    pod: str
    namespace: str
    node: str
    netns: str
    addresses: tuple[str, ...] = ()
    hostname: str = ""
    argv: tuple[str, ...] = ()
    command: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    user: int = 65534
    workdir: str = "/"
    log: str = ""
    stdin: bool = False
    tty: bool = False
    volumes: tuple[Volume, ...] = ()
    mounts: tuple[Mount, ...] = ()

    @property
    def address(self) -> str:
        """The pod's of the cluster's primary family."""
        return self.addresses[0] if self.addresses else ""

    @property
    def args(self) -> tuple[str, ...]:
        """The manifest's ``args``."""
        return self.argv[self.command :]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Container:
        known = dict(data)
        for name in ("argv", "addresses"):
            known[name] = tuple(known.get(name, ()))
        known["ports"] = tuple(Port(**port) for port in known.get("ports", ()))
        known["volumes"] = tuple(Volume(**volume) for volume in known.get("volumes", ()))
        known["mounts"] = tuple(Mount(**mount) for mount in known.get("mounts", ()))
        return cls(**known)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A program of ours that an image name stands for.

    ``light``: served by the runtime's own child through sockets in the pod's network namespace; no
    process. Otherwise a real process in a box of its own: the manifest's command or, with ``module``, the
    ``Program`` that the module's ``program`` names. ``capabilities``: name → why it is needed.
    ``entrypoints`` are commands that mean the image's own program.
    """

    name: str
    module: str = ""
    light: bool = True
    stand_in: bool = False
    capabilities: Mapping[str, str] = field(default_factory=dict)
    entrypoints: tuple[str, ...] = ()
    takes_command: bool = False
    """The module's program is the manifest's own command, in a place that the module makes."""

    @property
    def runs_command(self) -> bool:
        """Whether a manifest's ``command`` is run; as a rule a module is a program of its own."""
        return not self.light and (not self.module or self.takes_command)


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a process image runs: ``binds`` are files and directories of the machine that it sees too,
    read-only and under their own paths."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[str, ...] = ()
