"""[sig-network] Services: unready, terminating and evicted pods; nobody there; traffic policies inside."""

from __future__ import annotations

import json

from tests.conformance.case import case
from tests.conformance.kit import Kit
from tests.conformance.objects import Obj
from tests.conformance.traffic import Target, fetch

GROUP = "Services"


@case(GROUP, "should create endpoints for unready pods")
def unready_endpoints(kit: Kit) -> None:
    service = kit.service("tolerant", publishNotReadyAddresses=True)
    client, (name,) = kit.client(2), kit.lingering("tolerant", ready=False)
    kit.reach(client, service, {name})
    kit.patch("Service", "tolerant", {"spec": {"publishNotReadyAddresses": False}})
    kit.reach(client, service, "refused")
    kit.patch("Service", "tolerant", {"spec": {"publishNotReadyAddresses": True}})
    kit.reach(client, service, {name})
    kit.terminate(name)
    kit.reach(client, service, {name})


@case(
    GROUP,
    "should be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is true",
    publish=True,
)
@case(
    GROUP,
    "should not be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is false",
    publish=False,
)
def terminating_and_unready(kit: Kit, publish: bool) -> None:
    service = kit.service("slow", type="NodePort", publishNotReadyAddresses=publish)
    client, (name,) = kit.client(2), kit.lingering("slow", ready=False)
    kit.terminate(name)
    for to in (service, kit.node_port(service, 1), kit.node_port(service, 2)):
        kit.reach(client, to, {name} if publish else "refused", times=5)


@case(GROUP, "should be rejected when no endpoints exist")
def rejected(kit: Kit) -> None:
    service, client = kit.service("nobody"), kit.client()
    for sender in (client, "node1"):
        kit.reach(sender, service, "refused")


@case(GROUP, "should be rejected for evicted pods (no endpoints exist)")
def rejected_for_evicted(kit: Kit) -> None:
    service = kit.service("evicted", publishNotReadyAddresses=True)
    client, name = kit.client(), kit.pod("evicted", 2)
    kit.reach(client, service, {name})
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    kit.patch("Pod", name, {"status": evicted}, subresource="status")
    slices = kit.list("EndpointSlice", "kubernetes.io/service-name=evicted")
    assert [one.get("endpoints") or [] for one in slices] == [[]], f"the slices are {slices}"
    kit.reach(client, service, "refused")


@case(GROUP, "should respect internalTrafficPolicy=Local Pod to Pod")
def internal_local(kit: Kit) -> None:
    service, pods = kit.service("near", internalTrafficPolicy="Local"), kit.pods("near", (1,))
    kit.reach(kit.client(1), service, pods, times=5)
    kit.reach(kit.client(2), service, "dropped")


@case(GROUP, "should respect internalTrafficPolicy=Local Pod (hostNetwork: true) to Pod")
def internal_local_from_host(kit: Kit) -> None:
    service, pods = kit.service("near", internalTrafficPolicy="Local"), kit.pods("near", (1,))
    kit.reach(kit.host_client(1), service, pods, times=5)
    kit.reach(kit.host_client(2), service, "dropped")


@case(GROUP, "should respect internalTrafficPolicy=Local Pod and Node, to Pod (hostNetwork: true)")
def internal_local_to_host(kit: Kit) -> None:
    port = {"port": 80, "protocol": "TCP", "targetPort": 10180}
    service = kit.service("near", ports=[port], internalTrafficPolicy="Local")
    pods = kit.pods("near", (1,), port=10180, host_network=True)
    for sender in (kit.client(1), kit.host_client(1)):
        kit.reach(sender, service, pods, times=5)
    for sender in (kit.client(2), kit.host_client(2)):
        kit.reach(sender, service, "dropped")


@case(GROUP, "should fail health check node port if there are only terminating endpoints")
def health_check_node_port(kit: Kit) -> None:
    service = kit.service("lb", type="LoadBalancer", externalTrafficPolicy="Local")
    (name,) = kit.lingering("lb")
    check = service["spec"].get("healthCheckNodePort")
    assert check, "the Service has no healthCheckNodePort"
    at = Target(address=str(kit.node(1).ip), port=check)

    def health(sender: str = "node2") -> tuple[int, Obj]:
        code, body = fetch(kit.host(sender), at, "/healthz")
        return code, json.loads(body) if code else {"fate": body}

    code, body = health()
    assert (code, body.get("localEndpoints")) == (200, 1), f"{code} {body}"
    kit.terminate(name)
    kit.until(lambda: health()[0] == 503, "503 on the health check")
    assert health()[1]["localEndpoints"] == 0
    kit.reach("client1", kit.node_port(service, 1), {name})


def _terminating(kit: Kit, name: str) -> None:
    """The pod is the only one, and it is told to end."""
    kit.terminate(name)


@case(
    GROUP,
    "should fallback to terminating endpoints when there are no ready endpoints "
    "with internalTrafficPolicy=Cluster",
)
def fallback_inside(kit: Kit) -> None:
    service, (name,) = kit.service("ends"), kit.lingering("ends")
    near, far = kit.client(1), kit.client(2)
    _terminating(kit, name)
    for sender in (near, far):
        kit.reach(sender, service, {name}, times=5)


@case(
    GROUP,
    "should fallback to local terminating endpoints when there are no ready endpoints "
    "with internalTrafficPolicy=Local",
)
def fallback_inside_local(kit: Kit) -> None:
    service = kit.service("ends", internalTrafficPolicy="Local")
    (name,) = kit.lingering("ends")
    near, far = kit.client(1), kit.client(2)
    _terminating(kit, name)
    kit.reach(near, service, {name}, times=5)
    kit.reach(far, service, "dropped")


@case(
    GROUP,
    "should fallback to terminating endpoints when there are no ready endpoints "
    "with externallTrafficPolicy=Cluster",
)
def fallback_outside(kit: Kit) -> None:
    service, (name,) = kit.service("ends", type="NodePort"), kit.lingering("ends")
    client = kit.client(3)
    _terminating(kit, name)
    for sender in (client, "client1"):
        for node in (1, 2):
            kit.reach(sender, kit.node_port(service, node), {name}, times=5)


@case(
    GROUP,
    "should fallback to local terminating endpoints when there are no ready endpoints "
    "with externalTrafficPolicy=Local",
)
def fallback_outside_local(kit: Kit) -> None:
    service = kit.service("ends", type="NodePort", externalTrafficPolicy="Local")
    (name,) = kit.lingering("ends")
    _terminating(kit, name)
    kit.reach("client1", kit.node_port(service, 1), {name}, times=5, source="sender")
    kit.reach("client1", kit.node_port(service, 2), "dropped")
