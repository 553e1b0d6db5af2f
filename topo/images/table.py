"""Which image name means which program: the whole list, first match wins.

A name is compared without registry defaults (``docker.io/library/``) and without digest; a pattern
without a tag fits every tag. What the programs do is in their own files.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from topo.images import demo
from topo.images.image import Image

BACKEND_FLASK = Image(name="backend-flask", module="topo.images.backend_flask")
FRONTEND = Image(name="frontend-streamlit", module="topo.images.frontend_streamlit")
AGNHOST = Image(name="agnhost", module="topo.images.agnhost", entrypoints=("/agnhost", "agnhost"))
COREDNS = Image(
    name="coredns", module="topo.images.coredns", light=False, entrypoints=("/coredns", "coredns")
)
INGRESS_NGINX = Image(
    name="ingress-nginx",
    module="topo.images.ingress_nginx",
    light=False,
    entrypoints=("/nginx-ingress-controller", "nginx-ingress-controller"),
)
SHELL = Image(name="shell", light=False)
RAW_SHELL = Image(
    name="raw-shell",
    light=False,
    capabilities={"NET_RAW": "scapy and packet captures need raw sockets"},
)
PYTHON = Image(name="python", module="topo.images.python", light=False, takes_command=True)
REAL_BACKEND = Image(name="flask", module="topo.images.demo", light=False)
REAL_FRONTEND = Image(name="streamlit", module="topo.images.demo", light=False)
ECHO = Image(name="echo", module="topo.images.echo", stand_in=True)

IMAGES: tuple[tuple[str, Image], ...] = (
    ("seblum/mlops-public:backend-flask*", BACKEND_FLASK),
    ("seblum/mlops-public:frontend-streamlit*", FRONTEND),
    ("*/e2e-test-images/agnhost", AGNHOST),
    ("*/agnhost", AGNHOST),
    ("agnhost", AGNHOST),
    ("registry.k8s.io/coredns/coredns", COREDNS),
    ("coredns/coredns", COREDNS),
    ("podwire/coredns-binary", COREDNS),
    ("registry.k8s.io/ingress-nginx/controller", INGRESS_NGINX),
    ("*/ingress-nginx/controller", INGRESS_NGINX),
    ("podwire/echo", Image(name="echo", module="topo.images.echo")),
    ("podwire/scapy", RAW_SHELL),
    ("nicolaka/netshoot", RAW_SHELL),
    ("*/netshoot", RAW_SHELL),
    ("podwire/shell", SHELL),
    ("busybox", SHELL),
    ("*/busybox", SHELL),
    ("*/e2e-test-images/busybox", SHELL),
    ("alpine", SHELL),
    ("debian", SHELL),
    ("ubuntu", SHELL),
    ("curlimages/curl", SHELL),
    ("*/curlimages/curl", SHELL),
    ("curl", SHELL),
    ("radial/busyboxplus", SHELL),
    ("yauritux/busybox-curl", SHELL),
    ("python", PYTHON),
    ("*/python", PYTHON),
)
REAL: tuple[tuple[str, Image], ...] = (
    ("seblum/mlops-public:backend-flask*", REAL_BACKEND),
    ("seblum/mlops-public:frontend-streamlit*", REAL_FRONTEND),
)
"""These come first in a lab that asked for the real programs."""


def split(image: str) -> tuple[str, str]:
    """``(repository, tag)`` without digest and without Docker Hub's defaults."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        head = head.removeprefix(prefix)
    return head, tag or "latest"


def find(image: str) -> Image:
    """The program for an image name; the echo stand-in for every name that is not in the table."""
    repository, tag = split(image)
    for pattern, known in (*REAL, *IMAGES) if demo.wanted() else IMAGES:
        wanted = pattern if ":" in pattern else pattern + ":*"
        if fnmatchcase(f"{repository}:{tag}", wanted):
            return known
    return ECHO


def stand_in_message(container: str, image: str) -> str:
    """What is said wherever the echo stand-in takes an image's place."""
    return (
        f"container {container}: podwire has no program for image {image}; "
        "the echo stand-in answers on its containerPorts"
    )
