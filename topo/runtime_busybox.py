"""busybox' commands as links, so that a pod has wget, vi or nslookup when the machine has not.

The directory is made once and bound read-only into every box at /busybox, last in PATH.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

# commands that only act on the machine or would hide a better program under an old name
_NOT_FOR_PODS = {"init", "linuxrc", "halt", "poweroff", "reboot", "su", "login", "getty"}


def applets(directory: Path) -> str:
    """Fill the directory with links; returns its path, or "" when the machine has no busybox."""
    busybox = shutil.which("busybox")
    if busybox is None:
        return ""
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name not in _NOT_FOR_PODS:
            link = directory / name
            link.unlink(missing_ok=True)
            link.symlink_to(busybox)
    return str(directory)
