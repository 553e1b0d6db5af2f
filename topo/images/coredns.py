"""registry.k8s.io/coredns/coredns: the cluster's DNS server, a real process in its pod.

By default ours (``controller.dns``) in a python of its own; ``podwire/coredns-binary`` (``--dns coredns``)
is the machine's own coredns program; since a volume here never changes, ``controller.dns.mounted`` starts it
and keeps its Corefile as the ConfigMap has it. Nothing here resolves names.
"""

from __future__ import annotations

import shutil

from topo.images.image import Container, Program
from topo.images.module import run_module

BINARY = "podwire/coredns-binary"
MODULE = "controller.dns.app"
MOUNTED = "controller.dns.mounted"
COREFILE = "/tmp/Corefile"


def coredns_program() -> str | None:
    """The machine's coredns, if it has one."""
    return shutil.which("coredns")


def program(container: Container) -> Program:
    """What runs, and what of the machine it needs to see beside the usual."""
    if container.image.partition(":")[0] == BINARY:
        binary = coredns_program()
        if binary is None:
            raise OSError(2, "there is no program coredns on the PATH")
        return _python((MOUNTED, COREFILE, binary, "-conf", COREFILE), binds=(binary,))
    return _python((MODULE,))


def _python(words: tuple[str, ...], *, binds: tuple[str, ...] = ()) -> Program:
    """A module of ours, and its arguments, in a python of its own."""
    return run_module(*words, packages=("dns",), binds=binds)
