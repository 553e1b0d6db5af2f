"""registry.k8s.io/ingress-nginx/controller: a real nginx with our controller beside it.

The nginx is the machine's, or the one that ``./lab`` has fetched; what tells it whom to ask is
``controller.ingress``, in a python of its own. Nothing here knows what an Ingress is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from topo.environment import HOME
from topo.images.image import Container, Program
from topo.images.module import run_module
from topo.runtime_box import PATH

MODULE = "controller.ingress.app"
_ENTRYPOINTS = (("/nginx-ingress-controller",), ("nginx-ingress-controller",))
_PATH = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
_FETCHED = HOME / "nginx" / "usr" / "sbin" / "nginx"
MISSING = "there is no program nginx: run ./lab setup ingress once"


def nginx_program(env: Mapping[str, str] = os.environ) -> str | None:
    """Where nginx is; /usr/sbin is not on everybody's path."""
    found = shutil.which("nginx", path=os.pathsep.join([env.get("PATH", ""), _PATH]))
    return found or (str(_FETCHED) if os.access(_FETCHED, os.X_OK) else None)


def program(container: Container) -> Program:
    """What runs, and what of the machine it needs to see beside the usual."""
    nginx = nginx_program()
    if nginx is None:
        raise OSError(2, MISSING)
    args = container.args[1:] if container.args[:1] in _ENTRYPOINTS else container.args
    made = run_module(MODULE, f"--nginx={nginx}", *args, binds=(nginx,))
    # As in the real image, `nginx -T` can be typed in the pod, wherever the program came from.
    path = f"{container.env.get('PATH', PATH)}:{Path(nginx).parent}"
    return replace(made, env={**made.env, "PATH": path})
