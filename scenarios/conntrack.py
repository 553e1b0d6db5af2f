"""What the nodes remember of connections: the conntrack table of Open vSwitch as values.

Pure: reads the text of ``ovs-appctl dpctl/dump-conntrack``, the same for both datapaths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scenarios.packet import Endpoint, Tuple5

_SIDE = re.compile(r"(\w+)=([^,()]*)")
_ENTRY = re.compile(r"(?P<protocol>\w+),orig=\((?P<orig>[^)]*)\),reply=\((?P<reply>[^)]*)\)(?P<rest>.*)")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One connection in one zone: the tuple as it came in, and as it went out."""

    zone: int
    before: Tuple5
    after: Tuple5
    mark: int = 0
    state: str = ""

    @property
    def translated(self) -> bool:
        return self.before != self.after


def read(text: str) -> list[Entry]:
    """Every entry of a dump."""
    found = []
    for line in text.splitlines():
        if match := _ENTRY.match(line.strip()):
            rest = dict(_SIDE.findall(match["rest"]))
            protocol = match["protocol"].upper()
            found.append(
                Entry(
                    zone=int(rest.get("zone", 0)),
                    before=_tuple(protocol, match["orig"]),
                    after=_tuple(protocol, match["reply"]).reverse,
                    mark=int(rest.get("mark", "0"), 0),
                    state=rest.get("state", ""),
                )
            )
    return found


def _tuple(protocol: str, text: str) -> Tuple5:
    side = dict(_SIDE.findall(text))
    sport, dport = side.get("sport") or side.get("id", "0"), side.get("dport") or side.get("id", "0")
    return Tuple5(protocol, Endpoint(side["src"], int(sport)), Endpoint(side["dst"], int(dport)))
