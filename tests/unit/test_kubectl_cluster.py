"""kubectl, 1.20 and the newest, and the cluster as a whole: nodes, budgets, access, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.kubectl_kit import WEB, Cluster, Kubectl, cluster, newest, oldest


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kubectl")) as made:
        yield made


@pytest.fixture(params=["1.20", "newest"])
def kubectl(request: pytest.FixtureRequest, server: Cluster, tmp_path: Path) -> Kubectl:
    return Kubectl(server, oldest() if request.param == "1.20" else newest(), tmp_path)


def test_a_budget_says_how_many_pods_may_go(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", input=WEB)
    kubectl("create", "pdb", "web", "--selector=app=web", "--min-available=1")
    kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    kubectl.server.client.settle(["managers"])
    assert re.search(r"^web +1 +N/A +1 ", kubectl("get", "pdb"), re.M)
    told = kubectl("describe", "pdb", "web")
    assert re.search(r"Allowed disruptions: +1\n +Current: +2\n +Desired: +1\n +Total: +2", told)
    kubectl("scale", "deploy/web", "--replicas=1")
    kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    kubectl.server.client.settle(["managers"])
    assert re.search(r"^web +1 +N/A +0 ", kubectl("get", "pdb"), re.M)
    kubectl("delete", "pdb", "web")  # it would hold up who drains a node


def test_describe_tells_of_objects_and_their_events(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", input=WEB)
    kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    assert re.search(
        r"^Endpoints: +10\.244\.\S+:80,10\.244\.\S+:80$", kubectl("describe", "svc", "web"), re.M
    )
    assert "ScalingReplicaSet" in kubectl("describe", "deploy", "web")
    assert "Successfully assigned" in kubectl("describe", kubectl("get", "pod", "-o", "name").split()[0])
    assert re.search(r"TargetRef: +Pod/web.*\n.*node\d", kubectl("describe", "endpointslice"))
    pods = kubectl("describe", "pods", *(["--show-events"] if kubectl.program == newest() else []))
    assert pods.count("Successfully assigned") == 2  # of several, 1.37 tells events only when asked to
    assert re.search(r"InternalIP: +192\.168\.49\.2", kubectl("describe", "node", "node1"))
    lease = r"HolderIdentity: +node1\n.*AcquireTime.*\n.*RenewTime: +\w"
    assert re.search(lease, kubectl("describe", "node", "node1"))
    assert "Status:       Active" in kubectl("describe", "ns", kubectl.namespace)


def test_a_drained_node_is_left_unless_a_budget_forbids(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", input=WEB)
    kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    (node, *_) = kubectl.field("pods", ".items[*].spec.nodeName").split()
    drain = ("drain", node, "--ignore-daemonsets", "--force", "--pod-selector=app=web")
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
              "metadata": {"name": "all", "namespace": kubectl.namespace},
              "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}}  # fmt: skip
    kubectl.server.client.create(budget)
    try:
        (pod, *_) = kubectl.field("pods", ".items[*].metadata.name").split()
        eviction = {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
        told = kubectl.fails("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
        assert "would violate the pod's disruption budget" in told
        kubectl("delete", "pdb", "all")
        kubectl(*drain, "--timeout=20s")
        assert re.search(rf"^{node} +Ready,SchedulingDisabled", kubectl("get", "nodes"), re.M)
        kubectl("rollout", "status", "deploy/web", "--timeout=20s")
        assert node not in kubectl.field("pods", ".items[*].spec.nodeName").split()
    finally:
        kubectl("uncordon", node)


def test_a_tainted_node_gets_no_pods_or_loses_them(kubectl: Kubectl) -> None:
    kubectl("taint", "node", "node1", "k=v:NoSchedule")
    try:
        kubectl("apply", "-f", "-", input=WEB)
        kubectl("rollout", "status", "deploy/web", "--timeout=20s")
        assert set(kubectl.field("pods", ".items[*].spec.nodeName").split()) == {"node2", "node3"}
        kubectl("taint", "node", "node2", "k=v:NoExecute")
        kubectl.server.client.settle(["managers"])
        kubectl("rollout", "status", "deploy/web", "--timeout=20s")
        assert set(kubectl.field("pods", ".items[*].spec.nodeName").split()) == {"node3"}
    finally:
        kubectl("taint", "nodes", "node1", "node2", "k-")


AUTOSCALER = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 3}
"""


def test_what_no_lab_can_do_is_refused_in_plain_words(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", input=WEB)
    assert "use kubectl scale --replicas=N" in kubectl.fails("autoscale", "deploy/web", "--max=3")
    assert "Metrics API not available" in kubectl.fails("top", "pods")
    assert "the server doesn't have a resource type" in kubectl.fails("get", "potatoes")


def test_who_may_do_what_can_be_asked(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    pod = "--as=system:serviceaccount:default:default"
    assert kubectl("auth", "can-i", "list", "services", pod).strip() == "yes"
    assert kubectl.fails("auth", "can-i", "create", "pods", pod).startswith("no")
    assert "endpointslices.discovery.k8s.io" in kubectl("auth", "can-i", "--list", pod)
    assert "Forbidden" in kubectl.fails("get", "secrets", pod)
    assert "cannot create resource" in kubectl.fails("create", "configmap", "x", pod)
