"""A tunnel into the cluster, as ``minikube tunnel`` makes one on the user's machine.

Two things, for as long as it is open: a route, so that clients reach the ClusterIPs (10.96.0.0/12) by a
node, whose kube-proxy translates them; and an EXTERNAL-IP for every Service of type LoadBalancer that has
none: its own ClusterIP, as minikube writes it. Both for each family there is, and undone at the end. A
cluster with a cloud gives such Services real external addresses; then only the route is added.

It needs nothing of the lab's process, only the API and the namespaces by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType

from controller.api import objects
from controller.api.client import Batch, Client, Informer
from controller.api.errors import ApiError, NotFound, Unreachable
from controller.api.objects import Obj
from controller.api.wiring import ANNOTATION, CLOUD_LEASE, RANGES
from topo.links import Workbench
from topo.netns import Netns
from topo.plan import FABRIC, HOST_INTERFACE, NodePlan, Plan
from topo.rtnetlink import route

COMPONENT = "tunnel"


class Tunnel:
    """Open for the length of a ``with`` block. ``node``: whose bridge it leads to (the first one's).

    ``changed`` is called, from another thread, when Services were given addresses or lost them.
    """

    def __init__(
        self,
        client: Client,
        plan: Plan,
        node: NodePlan | None = None,
        *,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._client, self._plan, self._changed = client, plan, changed
        self.node = node or plan.nodes[0]
        self.services: dict[tuple[str, str], tuple[str, ...]] = {}
        """(namespace, name) -> the addresses each Service was given by us."""
        self._informer = Informer(client, ["Service"], self._hear)

    def __enter__(self) -> Tunnel:
        self._routes(delete=False)
        try:
            self._informer.start().wait_synced()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take everything back; what is gone already is no matter."""
        self._informer.stop()
        for (namespace, name), addresses in self.services.items():
            with contextlib.suppress(ApiError, Unreachable):
                if _ingress(self._client.get("Service", name, namespace)) == addresses:
                    self._give(namespace, name, ())
        self.services = {}
        self._routes(delete=True)

    # -- addresses

    def _hear(self, batch: Batch) -> None:
        cloud, before = self._has_cloud(), dict(self.services)
        for event in batch.events:
            service = event.obj
            key = objects.namespace(service), objects.name(service)
            if event.type == "DELETED" or not _is_balanced(service):
                if self.services.pop(key, None) and event.type != "DELETED":
                    self._give(*key, ())
            elif not cloud and not objects.is_deleting(service):
                own = tuple(service["spec"]["clusterIPs"])
                if _ingress(service) in ((), self.services.get(key)) and _ingress(service) != own:
                    self._give(*key, own)
                    self.services[key] = own
        if self.services != before:
            self._changed()
        with contextlib.suppress(Unreachable):
            self._client.progress(COMPONENT, batch.resource_version)

    def _has_cloud(self) -> bool:
        kind, namespace, name = CLOUD_LEASE
        try:
            return bool(self._client.get(kind, name, namespace)["spec"].get("holderIdentity"))
        except NotFound:
            return False

    def _give(self, namespace: str, name: str, addresses: tuple[str, ...]) -> None:
        """``ipMode: Proxy``, for kube-proxy has flows for the ClusterIP already and needs no others."""
        ingress = [{"ip": address, "ipMode": "Proxy"} for address in addresses] or None
        patch = {"status": {"loadBalancer": {"ingress": ingress}}}
        with contextlib.suppress(NotFound):
            self._client.patch("Service", name, patch, namespace, subresource="status")

    # -- routes

    def _routes(self, *, delete: bool) -> None:
        """Of the router towards the node; and of each client, as minikube adds it to the user's machine."""
        rows = [(FABRIC, self.node.fabric_interface)]
        rows += [(client.name, HOST_INTERFACE) for client in self._plan.clients]
        for name, interface in rows:
            try:
                netns = Netns.open(name)
            except FileNotFoundError:
                continue  # the lab is ending
            bench = Workbench(netns)
            try:
                with contextlib.suppress(*[OSError] * delete):
                    index = bench.index(interface)
                    for ranges in (RANGES[family] for family in self._plan.families):
                        request = route(index, ranges.services, via=ranges.gateway, delete=delete)
                        bench.rtnetlink.run([request])
            finally:
                bench.close()
                netns.delete()


def _is_balanced(service: Obj) -> bool:
    spec = service["spec"]
    ours = (spec.get("loadBalancerClass") or ANNOTATION).startswith(ANNOTATION)
    return spec.get("type") == "LoadBalancer" and ours


def _ingress(service: Obj) -> tuple[str, ...]:
    entries = (objects.status(service).get("loadBalancer") or {}).get("ingress") or ()
    return tuple(entry.get("ip", "") for entry in entries)
