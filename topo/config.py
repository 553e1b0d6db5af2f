"""What a cluster is asked to be: sizes, datapath, links; from keywords or from a small YAML file.

Only what the user may choose stands here, checked to the last key; addresses, names and ports follow
from it in ``topo.plan``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from controller.api.errors import UserError

MAX_NODES = 99
"""192.168.49.2-100 are node addresses from the start; .101-.254 are spare, for ``readdress``."""
MAX_CLIENTS = 100
DATAPATHS = ("auto", "kernel", "user")
CONTROLLERS = ("os-ken", "ryu")
DNS = ("podwire", "coredns", "none")
IP_FAMILIES = ("ipv4", "dual")
_IN_YAML = {"ip_family": "ipFamily"}
"""Keys that a file spells in another way than Python does: as kind's configuration has them."""
_IN_PYTHON: dict[str, str] = {there: here for here, there in _IN_YAML.items()}


@dataclass(frozen=True, kw_only=True)
class LinkConfig:
    """How one link is shaped, the same both ways. ``None`` leaves that property as it is."""

    bandwidth: float | None = None
    """Mbit/s, by htb."""
    delay: float | None = None
    """Milliseconds one way, by netem."""
    loss: float | None = None
    """Percent of packets, by netem."""


@dataclass(frozen=True, kw_only=True)
class HealthCheckConfig:
    """How the cloud's load balancer asks after each node. A target's first answer counts by itself."""

    interval: float = 1.0
    """Seconds from one answer to the next question."""
    timeout: float = 1.0
    """Seconds after which no answer is a failure."""
    healthy: int = 2
    """So many successes in a row bring a target back."""
    unhealthy: int = 2
    """So many failures in a row take it out."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """The whole choice. Wrong values raise UserError, whichever way they came."""

    nodes: int = 3
    clients: int = 1
    datapath: str = "auto"
    """``kernel`` (the openvswitch module), ``user`` (netdev), or ``auto``: kernel where there is one."""
    controller: str = "os-ken"
    dns: str = "podwire"
    """Who answers at kube-dns: our own server, the machine's ``coredns`` program, or nobody."""
    ip_family: str = "ipv4"
    """``dual``: everything has IPv6 addresses beside its IPv4 ones. In a file ``ipFamily``, as for kind."""
    offload: bool = False
    """Checksum and segmentation offload on the lab's links: faster, and captures stop being faithful."""
    cloud: bool = False
    """Whether the fabric is a cloud: Services of type LoadBalancer get an external address, and the router
    balances it over the healthy nodes. Without, they stay ``<pending>``, as in minikube without a tunnel."""
    health_check: HealthCheckConfig = field(default_factory=HealthCheckConfig)
    """The cloud's."""
    zones: Sequence[str] = ()
    """Zone of each node in turn (``topology.kubernetes.io/zone``); empty: nodes carry no zone."""
    links: Mapping[str, LinkConfig] = field(default_factory=dict)
    """Shaping of the link between a node or client and the fabric: ``node1``, ``client1``, or ``nodes``
    and ``clients`` for all of them (the single name wins)."""

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_yaml(cls, path: str | Path) -> ClusterConfig:
        """Read a configuration file; every mistake is one sentence that names the file and the key."""
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UserError(f"{path}: cannot be read: {reason}") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark else ""
            raise UserError(f"{path}: not YAML{where}: {getattr(error, 'problem', None) or error}") from None
        return cls.from_mapping({} if data is None else data, source=str(path))

    @classmethod
    def from_mapping(cls, data: Any, *, source: str = "") -> ClusterConfig:
        """Build from parsed YAML. ``source`` is the file's name, for the errors."""
        at = f"{source}: " if source else ""
        if not isinstance(data, dict):
            raise UserError(f"{at}a cluster is a mapping of keys like `nodes: 3`, not {_kind(data)}")
        _known_keys(data, cls, at)
        values: dict[str, Any] = {_IN_PYTHON.get(str(key), str(key)): value for key, value in data.items()}
        if "health_check" in values:
            values["health_check"] = _health_check(values["health_check"], at)
        if "links" in values:
            values["links"] = _links(values["links"], at)
        _types(values, at)
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{at}{error}") from None


def _links(data: Any, at: str) -> dict[str, LinkConfig]:
    if not isinstance(data, dict):
        raise UserError(f"{at}links: a mapping like `node1: {{bandwidth: 100}}` is needed, not {_kind(data)}")
    links = {}
    for name, shape in data.items():
        here = f"{at}links.{name}: "
        if not isinstance(shape, dict):
            raise UserError(f"{here}a mapping of bandwidth, delay and loss is needed, not {_kind(shape)}")
        _known_keys(shape, LinkConfig, here)
        for key, value in shape.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"{here}{key}: a number is needed, not {_kind(value)}")
        links[str(name)] = LinkConfig(**shape)
    return links


def _health_check(data: Any, at: str) -> HealthCheckConfig:
    here = f"{at}health_check: "
    if not isinstance(data, dict):
        raise UserError(f"{here}a mapping like `{{interval: 1, unhealthy: 2}}` is needed, not {_kind(data)}")
    _known_keys(data, HealthCheckConfig, here)
    for key, value in data.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{here}{key}: a number is needed, not {_kind(value)}")
    return HealthCheckConfig(**data)


def _known_keys(data: dict[Any, Any], cls: type, at: str) -> None:
    known = [_IN_YAML.get(item.name, item.name) for item in fields(cls)]
    for key in data:
        if _IN_YAML.get(key, key) not in known:
            raise UserError(f"{at}{key}: there is no such key; known are {', '.join(known)}")


def _types(values: Mapping[str, Any], at: str) -> None:
    wanted = {
        "nodes": int,
        "clients": int,
        "datapath": str,
        "controller": str,
        "dns": str,
        "ip_family": str,
        "offload": bool,
        "cloud": bool,
    }
    words = {int: "a whole number", str: "a word", bool: "true or false"}
    for key, value in values.items():
        kind = wanted.get(key)
        if kind and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise UserError(f"{at}{_IN_YAML.get(key, key)}: {words[kind]} is needed, not {_kind(value)}")
    zones = values.get("zones", [])
    if not isinstance(zones, list | tuple) or not all(isinstance(zone, str) for zone in zones):
        raise UserError(f"{at}zones: a list of zone names is needed, not {_kind(zones)}")


def _check(config: ClusterConfig) -> None:
    """Every value by itself and beside the others."""
    _types({item.name: getattr(config, item.name) for item in fields(config)}, "")
    if not 1 <= config.nodes <= MAX_NODES:
        raise UserError(f"nodes: from 1 to {MAX_NODES}, not {config.nodes}")
    if not 0 <= config.clients <= MAX_CLIENTS:
        raise UserError(f"clients: from 0 to {MAX_CLIENTS}, not {config.clients}")
    chosen = (("datapath", DATAPATHS), ("controller", CONTROLLERS), ("ip_family", IP_FAMILIES), ("dns", DNS))
    for key, choices in chosen:
        value = getattr(config, key)
        if value not in choices:
            raise UserError(f"{_IN_YAML.get(key, key)}: one of {', '.join(choices)}, not {value!r}")
    check = config.health_check
    for key, least in (("interval", 0.01), ("timeout", 0.01), ("healthy", 1), ("unhealthy", 1)):
        value = getattr(check, key)
        if not least <= value <= 3600 or (least == 1 and value != int(value)):
            kind = "a whole number" if least == 1 else "seconds"
            raise UserError(f"health_check.{key}: {kind} from {least} to 3600, not {value}")
    if config.zones and len(config.zones) != config.nodes:
        raise UserError(f"zones: one for each of the {config.nodes} nodes, not {len(config.zones)}")
    names = {f"node{n}" for n in range(1, config.nodes + 1)} | {"nodes", "clients"}
    names |= {f"client{n}" for n in range(1, config.clients + 1)}
    for name, link in config.links.items():
        if name not in names:
            raise UserError(f"links.{name}: there is no such link; a node, a client, `nodes` or `clients`")
        if link.bandwidth is not None and not 0 < link.bandwidth <= 1e6:
            raise UserError(f"links.{name}.bandwidth: Mbit/s above 0, at most 1000000, not {link.bandwidth}")
        if link.delay is not None and not 0 <= link.delay <= 1e5:
            raise UserError(f"links.{name}.delay: milliseconds from 0 to 100000, not {link.delay}")
        if link.loss is not None and not 0 <= link.loss <= 100:
            raise UserError(f"links.{name}.loss: percent from 0 to 100, not {link.loss}")


def _kind(value: Any) -> str:
    """The value as the user wrote it, short enough for one sentence."""
    names = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(value)) or repr(value)
