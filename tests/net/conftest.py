"""The net tier: real namespaces, links and switches. tests/conftest.py brought us into a sandbox."""

from __future__ import annotations

import pytest

from topo import sandbox


@pytest.fixture(autouse=True, scope="session")
def in_a_sandbox() -> None:
    """No test of this tier may ever touch the machine, however pytest was started."""
    assert sandbox.inside(), (
        "tests/net runs inside a sandbox only: start it as ./lab test or pytest tests/net"
    )
