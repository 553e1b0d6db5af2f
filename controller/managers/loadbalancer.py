"""LoadBalancer Services get an external address: the service loop of the cloud-controller-manager.

It acts only while there is a cloud: while the Lease kube-system/cloud-controller-manager has a holder (in
a real cluster it is the lock of that very process). Without one, type LoadBalancer stays ``<pending>``,
as in minikube without a tunnel. Addresses are all it knows; who carries packets to them is the cloud's
own business and reads them from ``status.loadBalancer.ingress[].ip``, the one source of truth: the lab's
router for its routes, the kubeproxy for its flows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address

from controller.api import objects
from controller.api.objects import Obj
from controller.api.wiring import ANNOTATION, CLOUD_LEASE, RANGES
from controller.managers.view import Change, Record, Ref, Update, View

COMPONENT = "service-controller"
"""As the loop is called upstream, where its Events are concerned."""
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
POOLS: Mapping[str, IPv4Network | IPv6Network] = {
    family: ranges.load_balancers for family, ranges in RANGES.items()
}


def reconcile(view: View, ref: Ref) -> list[Change]:
    """One step for one Service: the finalizer first, then the address; the reverse when it ends."""
    service = view.get(*ref)
    if service is None or ref.kind != "Service" or not has_cloud(view):
        return []
    return _ensure(view, service) if wants_balancer(service) else _release(service)


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """The Service itself; all that wait, when an address is free again; everyone, when the cloud comes."""
    obj = new or old
    if obj is None:
        return
    if obj["kind"] == "Lease":
        if objects.key(obj) == CLOUD_LEASE and (old is None) != (new is None):
            yield from (objects.key(service) for service in view.list("Service") if _concerns(service))
        return
    if _concerns(obj) or (old is not None and _concerns(old)):
        yield objects.key(obj)
    if old is not None and set(held(old)) - set(held(new) if new else ()):
        for service in view.list("Service"):
            if wants_balancer(service) and not ingress(service):
                yield objects.key(service)


def has_cloud(view: View) -> bool:
    """Whether a cloud-controller-manager is at work."""
    lease = view.get(*CLOUD_LEASE)
    return lease is not None and bool((lease.get("spec") or {}).get("holderIdentity"))


def wants_balancer(service: Obj) -> bool:
    """Of type LoadBalancer, alive, of no class or of ours (``podwire.dev/...``)."""
    spec = service["spec"]
    ours = (spec.get("loadBalancerClass") or ANNOTATION).startswith(ANNOTATION)
    return spec.get("type") == "LoadBalancer" and ours and not objects.is_deleting(service)


def ingress(service: Obj) -> list[str]:
    """The addresses in the Service's status."""
    entries = (objects.status(service).get("loadBalancer") or {}).get("ingress") or ()
    return [entry["ip"] for entry in entries if entry.get("ip")]


def held(service: Obj) -> Iterator[str]:
    """External addresses that nobody else may be given: those in the status, and ``externalIPs``."""
    yield from ingress(service)
    yield from service["spec"].get("externalIPs") or ()


def _concerns(service: Obj) -> bool:
    return service["spec"].get("type") == "LoadBalancer" or FINALIZER in _finalizers(service)


def _finalizers(service: Obj) -> list[str]:
    return list(service["metadata"].get("finalizers") or ())


def _ensure(view: View, service: Obj) -> list[Change]:
    if FINALIZER not in _finalizers(service):
        ensuring = _record(service, "EnsuringLoadBalancer", "Ensuring load balancer")
        return [ensuring, _with_finalizers(service, [*_finalizers(service), FINALIZER])]
    others = {
        address for one in view.list("Service") if objects.key(one) != objects.key(service)
        for address in held(one)
    }  # fmt: skip
    families = service["spec"].get("ipFamilies") or ["IPv4"]
    asked = str(service["spec"].get("loadBalancerIP") or "")
    of_asked = next((family for family in families if asked and _is_in(asked, POOLS[family])), families[0])
    chosen = [
        _choose(service, POOLS[family], others, asked if family == of_asked else "") for family in families
    ]
    found = [address for address, _ in chosen if address]
    problems = [problem for _, problem in chosen if problem]
    if problems:
        text = f"Error syncing load balancer: failed to ensure load balancer: {'; '.join(problems)}"
        return [_record(service, "SyncLoadBalancerFailed", text, type="Warning")]
    if found == ingress(service):
        return []
    ensured = _record(service, "EnsuredLoadBalancer", "Ensured load balancer")
    return [_with_ingress(service, found), ensured]


def _is_in(text: str, pool: IPv4Network | IPv6Network) -> bool:
    try:
        return ip_address(text) in pool
    except ValueError:
        return False  # the API takes any text there, as upstream's does


def _choose(service: Obj, pool: IPv4Network | IPv6Network, others: set[str], asked: str) -> tuple[str, str]:
    """(address, "") or ("", why there is none). What the Service holds it keeps, unless it asks for another.

    Without a wish the address follows from the Service's name, so that a lab gives the same on every run.
    """
    if asked:
        if not _is_in(asked, pool):
            return "", f"requested IP {asked} is not in the pool {pool}"
        return ("", f"requested IP {asked} is already allocated") if asked in others else (asked, "")
    for address in ingress(service):
        if ip_address(address) in pool and address not in others:
            return address, ""
    size = min(pool.num_addresses, 1 << 16) - 2
    seed = zlib.crc32(f"{objects.namespace(service)}/{objects.name(service)}".encode())
    for step in range(size):
        address = str(pool[1 + (seed + step) % size])
        if address not in others:
            return address, ""
    return "", f"no free address is left in the pool {pool}"


def _release(service: Obj) -> list[Change]:
    """The address goes before the finalizer does: once that is gone, so may be the Service."""
    if FINALIZER not in _finalizers(service):
        return []
    if ingress(service):
        deleting = _record(service, "DeletingLoadBalancer", "Deleting load balancer")
        return [deleting, _with_ingress(service, [])]
    left = [word for word in _finalizers(service) if word != FINALIZER]
    deleted = _record(service, "DeletedLoadBalancer", "Deleted load balancer")
    return [_with_finalizers(service, left), deleted]


def _with_finalizers(service: Obj, finalizers: list[str]) -> Update:
    return Update({**service, "metadata": {**service["metadata"], "finalizers": finalizers}})


def _with_ingress(service: Obj, addresses: list[str]) -> Update:
    entries = [{"ip": address, "ipMode": "VIP"} for address in addresses]
    balancer = {"ingress": entries} if entries else {}
    return Update({**service, "status": {**objects.status(service), "loadBalancer": balancer}}, "status")


def _record(service: Obj, reason: str, message: str, *, type: str = "Normal") -> Record:
    return Record(involved=service, reason=reason, message=message, component=COMPONENT, type=type)
