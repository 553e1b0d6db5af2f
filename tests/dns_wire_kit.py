"""dig as a witness: many questions in one process, and what it prints read back into rows."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence

Run = Callable[[list[str]], subprocess.CompletedProcess[str]]
_STATUS = re.compile(r"status: (\w+)")


def ask_by_dig(
    run: Run, server: str, questions: Sequence[tuple[str, str]], *, port: int = 53, tcp: bool = False
) -> list[tuple[str, tuple[str, ...]]]:
    """(NOERROR, NODATA, NXDOMAIN ..., sorted answers as in ``dns_rows``) for each (name, type)."""
    argv = ["dig", f"@{server}", "-p", str(port), "+tcp" if tcp else "+notcp", "+time=5", "+tries=1"]
    argv += ["+noall", "+comments", "+answer", "+nocookie"]
    for name, type_ in questions:
        argv += [name, type_]
    done = run(argv)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = done.stdout.split(";; Got answer:")[1:]
    assert len(parts) == len(questions), done.stdout
    return [_read(part, name) for part, (name, _) in zip(parts, questions, strict=True)]


def _read(part: str, asked: str) -> tuple[str, tuple[str, ...]]:
    status = _STATUS.search(part)
    assert status is not None, part
    lines = []
    for line in part.splitlines():
        if line and not line.startswith(";"):
            name, _ttl, _class, type_, *data = line.split()
            if type_ == "SOA":
                data[2] = "*"
            owner = "" if name == asked else f"{name} "
            lines.append(f"{owner}{type_} {' '.join(data)}")
    rcode = status.group(1)
    return "NODATA" if rcode == "NOERROR" and not lines else rcode, tuple(sorted(lines))
