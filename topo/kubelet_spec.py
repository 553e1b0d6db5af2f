"""From a pod's spec to what the runtime is handed, and what is said about what podwire leaves out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.api.objects import Obj
from controller.api.wiring import MIRROR
from topo.images.image import Container, Port
from topo.images.table import find, stand_in_message
from topo.kubelet_env import Lookup, environment, expand
from topo.kubelet_files import files, hostname
from topo.kubelet_stand_in import more_ports, unasked
from topo.kubelet_volumes import left_out, mounts_of, volumes_of

NOBODY = 65534


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a pod is: its node, and the addresses of both, the primary family's first (none yet: empty).
    ``credentials`` are its service account's files.

    ``machine_resolv_conf`` is what the node's own programs read (dnsPolicy Default).
    """

    node: str
    node_addresses: tuple[str, ...]
    addresses: tuple[str, ...]
    netns: str
    machine_resolv_conf: str = ""
    logs: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The pod's of the primary family, or ""."""
        return self.addresses[0] if self.addresses else ""

    @property
    def node_address(self) -> str:
        return self.node_addresses[0]


@dataclass(frozen=True, kw_only=True)
class Remark:
    """An Event that tells of something left out or replaced."""

    reason: str
    message: str
    type: str = field(default="Warning")


def container_of(
    pod: Obj, spec: Obj, container_id: str, place: Place, services: Iterable[Obj], lookup: Lookup
) -> Container:
    """The container to be started; kubelet_env.ConfigError when its environment cannot be made."""
    metadata = pod["metadata"]
    fields = {
        "status.podIP": place.address,
        "status.podIPs": ",".join(place.addresses),
        "status.hostIP": place.node_address,
        "status.hostIPs": ",".join(place.node_addresses),
    }
    around = list(services)
    env = environment(pod, spec, around, fields=fields, lookup=lookup)
    name = hostname(pod, place.node)
    command = [expand(word, env) for word in spec.get("command") or []]
    args = [expand(word, env) for word in spec.get("args") or []]
    return Container(
        id=container_id,
        name=spec["name"],
        image=spec["image"],
        pod=metadata["name"],
        namespace=metadata["namespace"],
        node=place.node,
        netns=place.netns,
        addresses=place.addresses,
        hostname=name,
        argv=(*command, *args),
        command=len(command),
        env={"HOSTNAME": name, **env},
        files=files(
            pod,
            addresses=place.addresses,
            node=place.node,
            machine_resolv_conf=place.machine_resolv_conf,
            credentials=place.credentials,
        ),
        ports=_ports(pod, spec, around),
        user=user_of(pod, spec),
        workdir=spec.get("workingDir") or "/",
        stdin=bool(spec.get("stdin")),
        tty=bool(spec.get("tty")),
        volumes=volumes_of(pod, fields=fields, credentials=place.credentials, lookup=lookup),
        mounts=mounts_of(spec, env),
        log=f"{place.logs}/{metadata['namespace']}_{metadata['name']}_{spec['name']}.log"
        if place.logs
        else "",
    )


def _ports(pod: Obj, spec: Obj, services: Iterable[Obj]) -> tuple[Port, ...]:
    """The containerPorts; a stand-in's others behind them."""
    made = {(port.number, port.protocol): port for port in ports_of(spec)}
    for port in more_ports(pod, spec, services):
        made.setdefault((port.number, port.protocol), port)
    return tuple(made.values())


def ports_of(spec: Obj) -> Iterable[Port]:
    seen = set()
    for port in spec.get("ports") or []:
        made = Port(
            number=port["containerPort"], protocol=port.get("protocol") or "TCP", name=port.get("name") or ""
        )
        if (made.number, made.protocol) not in seen:
            seen.add((made.number, made.protocol))
            yield made


def named_ports(spec: Obj) -> Mapping[str, int]:
    return {port.name: port.number for port in ports_of(spec) if port.name}


def user_of(pod: Obj, spec: Obj) -> int:
    """runAsUser where it is not root; everybody else is nobody."""
    for context in (spec.get("securityContext"), pod["spec"].get("securityContext")):
        user = (context or {}).get("runAsUser")
        if user is not None:
            return int(user) if int(user) > 0 else NOBODY
    return NOBODY


def is_mirror(pod: Obj) -> bool:
    """A static pod as the API shows it: its process is one of the lab's own, there is nothing to start."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def image_id(image: str) -> str:
    """What really runs, for containerStatuses[].imageID."""
    return f"podwire://{find(image).name}"


def remarks(pod: Obj, spec: Obj) -> Iterable[Remark]:
    """What is worth saying about one container when it is first started."""
    image = find(spec["image"])
    if image.stand_in:
        yield Remark(reason="StandIn", message=stand_in_message(spec["name"], spec["image"]), type="Normal")
    command = spec.get("command") or []
    if command and not image.runs_command and command[0] not in image.entrypoints:
        yield Remark(
            reason="CommandIgnored",
            message=f"container {spec['name']}: command {command} is not run; podwire's own program "
            f"{image.name} takes the place of image {spec['image']}",
        )
    for text in left_out(pod, spec):
        yield Remark(reason="VolumesIgnored", message=f"container {spec['name']}: {text}")
    for kind in ("startup", "liveness", "readiness"):
        why = unasked(spec, kind)
        if why:
            message = f"container {spec['name']}: {why}; it counts as passed"
            yield Remark(reason="ProbeIgnored", message=message)
    wanted = (spec.get("securityContext") or {}).get("runAsUser")
    if wanted == 0 or (spec.get("securityContext") or {}).get("privileged"):
        yield Remark(
            reason="PrivilegesIgnored",
            message=f"container {spec['name']} runs as an unprivileged user; podwire grants no root",
        )


def pod_message(pod: Obj) -> str:
    """status.message: which containers are stand-ins."""
    return "; ".join(
        stand_in_message(spec["name"], spec["image"])
        for spec in pod["spec"]["containers"]
        if find(spec["image"]).stand_in
    )
