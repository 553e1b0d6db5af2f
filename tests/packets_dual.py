"""The packet cases in IPv6: the same scene in dual stack, the same rows to its IPv6 addresses.

An IPv6 address is written with the digits of the IPv4 one (10.96.0.50 and fd00:10:96::50), so that a row can
name the one and mean the other. Nothing here knows how a tier sends packets.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tests.packets import ROWS, SCENE, Obj, Row

_PREFIXES = {
    r"192\.168\.49\.": "fd00:49::",
    r"10\.244\.(\d+)\.": r"fd00:10:244:\1::",
    r"10\.96\.0\.": "fd00:10:96::",
    r"203\.0\.113\.": "2001:db8:203::",
    r"198\.51\.100\.": "2001:db8:198::",
    r"192\.0\.2\.": "2001:db8:2::",
    r"169\.254\.0\.": "fd00:169:254::",
}
_RANGES = {"10.244.1.0/24": "fd00:10:244:1::/64", "198.51.100.0/28": "2001:db8:198::/122"}
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.(\d+)")


def in_ipv6(text: str) -> str:
    """An address or range of the scene in the other family."""
    if text in _RANGES:
        return _RANGES[text]
    if text.endswith(".0/24"):
        return f"{in_ipv6(text.removesuffix('.0/24') + '.0').removesuffix('0')}/64"
    for ipv4, ipv6 in _PREFIXES.items():
        if re.match(ipv4, text):
            return re.sub(ipv4, ipv6, text)
    raise AssertionError(f"{text} is no address of the scene")


def dual(obj: Obj) -> Obj:
    """A Service with an address of each family wherever it has one; anything else as it is."""
    if obj["kind"] != "Service":
        return obj
    spec = obj["spec"] | {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    spec["clusterIPs"] = [spec["clusterIP"], in_ipv6(spec["clusterIP"])]
    for several in ("externalIPs", "loadBalancerSourceRanges"):
        if several in spec:
            spec[several] = [*spec[several], *map(in_ipv6, spec[several])]
    made = obj | {"spec": spec}
    if "status" in obj:
        ingress = obj["status"]["loadBalancer"]["ingress"]
        both = [*ingress, *(entry | {"ip": in_ipv6(entry["ip"])} for entry in ingress)]
        made["status"] = {"loadBalancer": {"ingress": both}}
    return made


def of_row(row: Row) -> Row:
    """The same case in IPv6. There is no localhost NodePort: who asks for one is refused like anyone who asks
    for a port on which nobody listens."""
    host, slash, protocol = row.to.rpartition("/")
    found = _ADDRESS.match(host)
    if found:
        host = f"[{in_ipv6(found[0])}]{host[found.end() :]}"
    here = replace(row, name=f"IPv6: {row.name}", to=host + slash + protocol)
    return replace(here, expect="refused") if host.startswith("localhost:") else here


DUAL_SCENE = [dual(obj) for obj in SCENE]
IPV6_ROWS = [of_row(row) for row in ROWS]
