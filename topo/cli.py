"""Mininet's command line over a lab, for ``--cli``. Nothing but what pods' names need."""

from __future__ import annotations

from mininet.cli import CLI

from topo import sandbox
from topo.network import Network


class LabCli(CLI):  # type: ignore[misc]
    """``node1 ip route``, ``frontend-6d-x2 ping client1``: names may have dashes and dots."""

    identchars = CLI.identchars + "-."
    prompt = "podwire> "


def run(network: Network) -> None:
    """Until the user says ``exit``; Ctrl-C ends a command, not the lab."""
    with sandbox.interactive():
        LabCli(network)
