"""registry.k8s.io/ingress-nginx/controller: a real nginx with our controller beside it.

The nginx is the machine's (Debian's nginx-light); what tells it whom to ask is ``controller.ingress``, in a
python of its own. Nothing here knows what an Ingress is.
"""

from __future__ import annotations

from controller.ingress.nginx import available
from topo.images.image import Container, Program
from topo.images.module import run_module

MODULE = "controller.ingress.app"
_ENTRYPOINTS = (("/nginx-ingress-controller",), ("nginx-ingress-controller",))


def program(container: Container) -> Program:
    """What runs, and what of the machine it needs to see beside the usual."""
    if available() is None:
        raise OSError(2, "there is no program nginx: install nginx-light, or run ./lab setup ingress")
    args = container.args[1:] if container.args[:1] in _ENTRYPOINTS else container.args
    return run_module(MODULE, *args)
