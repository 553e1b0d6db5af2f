"""busybox' commands as links, so that a pod has wget, vi or nslookup when the machine has not.

The directory is made once and bound read-only into every box at /busybox, last in PATH.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_NC = """\
#!/usr/bin/python3 -IS
# nc as the busybox image has it: Debian's knows no -z, and half of all init containers wait by that.
import getopt, os, socket, sys
try:
    options, rest = getopt.getopt(sys.argv[1:], "46nuvzw:i:p:s:")
except getopt.GetoptError:
    options, rest = [], []
flags = dict(options)
if "-z" not in flags or len(rest) != 2 or not rest[1].isdigit():
    os.execv("@busybox@", ["nc", *sys.argv[1:]])
kind = socket.SOCK_DGRAM if "-u" in flags else socket.SOCK_STREAM
try:
    found = socket.getaddrinfo(*rest, type=kind)[0]
    with socket.socket(*found[:2]) as sock:
        sock.settimeout(float(flags.get("-w") or 0) or None)
        sock.connect(found[4])
    said = "open"
except socket.gaierror:
    sys.exit(f"nc: bad address '{rest[0]}'")
except OSError as error:
    said = error.strerror or "timed out"
if "-v" in flags or said != "open":
    print(f"nc: {rest[0]} ({found[4][0]}:{rest[1]}): {said}", file=sys.stderr)
sys.exit(said != "open")
"""
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
    nc = directory / "nc"
    nc.unlink(missing_ok=True)
    nc.write_text(_NC.replace("@busybox@", busybox))
    nc.chmod(0o755)
    return str(directory)
