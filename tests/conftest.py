"""Settings every tier shares, and the door of the net tier: it runs in a sandbox or not at all.

What one tier needs for itself belongs into that tier's conftest.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from controller.api.errors import MachineError
from tests import clients_kit
from tests.unit.kubectl_kit import oldest
from topo import linux, sandbox
from topo.environment import HOME

_ROOT = Path(__file__).parent.parent
_NET = _ROOT / "tests" / "net"

# Two slow cores shared with others: an example's time says nothing, and a failure must come again.
hypothesis.settings.register_profile("podwire", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("podwire")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Start pytest again inside a sandbox when it was asked for tests/net outside of one."""
    if config.option.help or config.option.version or config.option.collectonly:
        return
    if sandbox.inside() or not any(_meets_net(argument, config) for argument in config.args):
        return
    try:
        sandbox.need_root()
    except Exception as error:
        raise pytest.UsageError(f"tests/net: {error}; without it: pytest tests/unit tests/ovs") from None
    _fetch_clients(config)
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    arguments = [sys.executable, "-m", "pytest", *config.invocation_params.args]
    sandbox.enter(lambda: _again(arguments), name=f"tests-{os.getpid()}")


def _meets_net(argument: str, config: pytest.Config) -> bool:
    path = _path(argument, config)
    return path.is_relative_to(_NET) or _NET.is_relative_to(path)


def _fetch_clients(config: pytest.Config) -> None:
    """The clients that some tests of that tier bring along: there is no network inside."""
    wanted = (
        ("test_kubectl_streams.py", oldest),
        ("test_kubectl_targets.py", oldest),
        ("test_python_clients.py", clients_kit.python),
        ("test_python_in_a_pod.py", clients_kit.python),
    )
    for word, fetch in wanted:
        if any(_NET.joinpath(word).is_relative_to(_path(argument, config)) for argument in config.args):
            try:
                fetch()
            except (OSError, subprocess.SubprocessError, MachineError) as error:
                print(f"tests/net/{word} will fail: {error}", file=sys.stderr)


def _path(argument: str, config: pytest.Config) -> Path:
    return (config.invocation_params.dir / argument.split("::")[0]).resolve()


def _again(arguments: list[str]) -> NoReturn:
    _private_tmp()
    # Not a lab: `./lab down` in a test finds the labs the tests start, and no other.
    (sandbox.run_dir() / "lab.json").unlink()
    os.execv(arguments[0], arguments)


def _private_tmp() -> None:
    """Cover /tmp, so that a test can tell what a lab leaves there from what others put there.

    What pytest itself needs from below /tmp (a checkout, an environment) stays where it was.
    """
    wanted = {_ROOT, Path(sys.prefix), Path.cwd(), HOME}
    below = sorted(path for path in wanted if path.is_relative_to("/tmp") and path.exists())
    kept = [(path, os.open(path, os.O_RDONLY)) for path in below]
    linux.mount("podwire", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")
    for path, fd in kept:
        path.mkdir(parents=True, exist_ok=True)
        linux.mount(f"/proc/self/fd/{fd}", str(path), "", linux.MS_BIND)
        os.close(fd)
    os.chdir(Path.cwd())
