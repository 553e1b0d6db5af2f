"""The rules of writing, without HTTP: defaults, generation, subresources, namespaces, deletion."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from controller.api.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from controller.api.kinds import KINDS
from controller.api.objects import Obj
from controller.api.registry import Registry
from controller.api.schema import clean
from controller.api.store import Store
from controller.managers.allocations import Allocator
from tests.unit.api_kit import config_map, deployment, namespace, pod, service

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry() -> Iterator[Registry]:
    store = Store()
    uids = (f"uid-{number}" for number in itertools.count(1))
    made = Registry(
        store, allocate=Allocator(store), now=lambda: NOW, new_uid=lambda: next(uids), rng=random.Random(1)
    )
    made.ensure_system_namespaces()
    yield made
    store.close()


def test_the_system_namespaces_are_there_from_the_start(registry: Registry) -> None:
    names = [obj["metadata"]["name"] for obj in registry.store.list("Namespace")]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    newest = registry.store.newest
    registry.ensure_system_namespaces()
    assert registry.store.newest == newest


def test_a_new_object_gets_uid_time_generation_and_defaults(registry: Registry) -> None:
    made = registry.create(pod())
    assert made["metadata"]["uid"] == "uid-5"
    assert made["metadata"]["creationTimestamp"] == "2030-01-01T00:00:00Z"
    assert made["metadata"]["generation"] == 1
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    container = made["spec"]["containers"][0]
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert made["spec"]["restartPolicy"] == "Always"
    assert made["spec"]["terminationGracePeriodSeconds"] == 30


def test_a_service_is_defaulted_and_allocated(registry: Registry) -> None:
    spec = registry.create(service(spec={"type": "NodePort"}))["spec"]
    assert spec["ports"][0]["targetPort"] == 80
    assert spec["ports"][0]["protocol"] == "TCP"
    assert 30000 <= spec["ports"][0]["nodePort"] <= 32767
    assert spec["clusterIP"].startswith("10.")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["internalTrafficPolicy"] == spec["externalTrafficPolicy"] == "Cluster"
    assert spec["ipFamilies"] == ["IPv4"]
    assert spec["sessionAffinity"] == "None"


def test_a_deployment_is_defaulted(registry: Registry) -> None:
    spec = registry.create(deployment())["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}
    }  # fmt: skip
    assert spec["revisionHistoryLimit"] == 10
    assert spec["progressDeadlineSeconds"] == 600
    assert spec["template"]["spec"]["dnsPolicy"] == "ClusterFirst"


def test_defaults_and_allocations_are_stable_when_an_object_is_written_back(registry: Registry) -> None:
    for obj in (pod(), service(spec={"type": "NodePort"}), deployment()):
        made = registry.create(obj)
        assert registry.update(made) is made


@pytest.mark.parametrize("obj", [pod(), service(), deployment(), namespace("n")], ids=lambda obj: obj["kind"])
def test_what_is_served_has_every_field_that_typed_clients_require(registry: Registry, obj: Obj) -> None:
    _, report = clean(registry.create(obj))
    assert (report.missing, report.unknown, report.wrong) == ([], [], [])


def test_generate_name_makes_names_up(registry: Registry) -> None:
    wanted = pod(metadata={"name": None, "generateName": "web-"})
    names = {registry.create(wanted)["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("web-") and len(name) == 9 for name in names)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "mine-"}}
    assert registry.create(space)["metadata"]["name"].startswith("mine-")


def test_an_object_without_a_name_is_refused(registry: Registry) -> None:
    with pytest.raises(Invalid, match=r"metadata\.name: Required value: name or generateName is required"):
        registry.create(pod(metadata={"name": None}))


def test_the_generation_counts_changes_of_the_spec_only(registry: Registry) -> None:
    registry.create(deployment())
    labelled = registry.patch("Deployment", "default", "web", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    scaled = registry.patch("Deployment", "default", "web", {"spec": {"replicas": 3}})
    assert scaled["metadata"]["generation"] == 2
    reported = registry.patch(
        "Deployment", "default", "web", {"status": {"observedGeneration": 2}}, subresource="status"
    )
    assert reported["metadata"]["generation"] == 2


def test_a_status_is_changed_through_its_subresource_only(registry: Registry) -> None:
    made = registry.create(pod())
    assert registry.update({**made, "status": {"phase": "Running"}}) is made
    running = registry.update(
        {**made, "status": {"phase": "Running"}, "spec": {"containers": []}}, subresource="status"
    )
    assert running["status"] == {"phase": "Running"}
    assert running["spec"] == made["spec"]


def test_a_status_patch_may_set_annotations(registry: Registry) -> None:
    registry.create(pod())
    patch = {
        "metadata": {"annotations": {"podwire.dev/interface": "node1-p5"}},
        "status": {"podIP": "10.244.1.2"},
    }
    made = registry.patch("Pod", "default", "web", patch, subresource="status")
    assert made["metadata"]["annotations"] == {"podwire.dev/interface": "node1-p5"}
    assert made["status"]["podIP"] == "10.244.1.2"
    assert made["status"]["phase"] == "Pending"


def test_a_client_cannot_change_what_the_server_owns(registry: Registry) -> None:
    made = registry.create(pod())
    tried = {
        "creationTimestamp": "2000-01-01T00:00:00Z",
        "generation": 7,
        "deletionTimestamp": "2000-01-01T00:00:00Z",
    }
    assert registry.patch("Pod", "default", "web", {"metadata": tried}) is made
    with pytest.raises(Conflict, match="UID in precondition"):
        registry.patch("Pod", "default", "web", {"metadata": {"uid": "another"}})


def test_a_stale_resource_version_conflicts_even_if_nothing_would_change(registry: Registry) -> None:
    first = registry.create(pod())
    registry.patch("Pod", "default", "web", {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(Conflict):
        registry.update(first)
    with pytest.raises(Conflict):
        registry.patch("Pod", "default", "web", {"metadata": {"resourceVersion": "1", "labels": {"a": "c"}}})


def test_a_patch_cannot_rename_or_turn_an_object_into_another_kind(registry: Registry) -> None:
    registry.create(pod())
    with pytest.raises(BadRequest, match="does not match the name on the URL"):
        registry.patch("Pod", "default", "web", {"metadata": {"name": "other"}})
    with pytest.raises(BadRequest, match="cannot change apiVersion or kind"):
        registry.patch("Pod", "default", "web", {"kind": "Service"})


def test_a_dry_run_answers_and_writes_nothing(registry: Registry) -> None:
    newest = registry.store.newest
    made = registry.create(service(), dry_run=True)
    assert made["spec"]["clusterIP"]
    with pytest.raises(NotFound):
        registry.get("Service", "default", "web")
    registry.create(pod())
    assert registry.patch("Pod", "default", "web", {"metadata": {"labels": {"a": "b"}}}, dry_run=True)
    registry.delete("Pod", "default", "web", dry_run=True)
    assert registry.store.newest == newest + 1


def test_the_scale_of_a_deployment_is_read_and_written(registry: Registry) -> None:
    registry.create(deployment())
    scale = registry.get("Deployment", "default", "web", subresource="scale")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"]["selector"] == "app=web"
    registry.scale("Deployment", "default", "web", {**scale, "spec": {"replicas": 4}})
    patched = registry.patch("Deployment", "default", "web", {"spec": {"replicas": 5}}, subresource="scale")
    assert patched["kind"] == "Scale"
    assert registry.get("Deployment", "default", "web")["spec"]["replicas"] == 5
    with pytest.raises(Conflict):
        registry.scale("Deployment", "default", "web", scale)


def test_a_binding_puts_a_pod_on_a_node_once(registry: Registry) -> None:
    made = registry.create(pod())
    bound = registry.update({**made, "spec": {**made["spec"], "nodeName": "node1"}}, subresource="binding")
    assert bound["spec"]["nodeName"] == "node1"
    assert bound["status"]["conditions"] == [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}
    ]
    with pytest.raises(Conflict, match="already assigned to node"):
        registry.update({**bound, "spec": {**made["spec"], "nodeName": "node2"}}, subresource="binding")


def test_nothing_is_created_in_a_missing_or_terminating_namespace(registry: Registry) -> None:
    with pytest.raises(NotFound, match='namespaces "team" not found'):
        registry.create(pod(metadata={"namespace": "team"}))
    registry.create(namespace("team"))
    registry.create(pod(metadata={"namespace": "team"}))
    gone = registry.delete("Namespace", "", "team")
    assert gone["status"]["phase"] == "Terminating"
    with pytest.raises(Forbidden, match="because it is being terminated"):
        registry.create(pod("late", metadata={"namespace": "team"}))


def test_a_namespace_goes_when_its_finalizer_is_taken_off(registry: Registry) -> None:
    registry.create(namespace("team"))
    gone = registry.delete("Namespace", "", "team")
    assert gone["spec"]["finalizers"] == ["kubernetes"]
    registry.update({**gone, "spec": {"finalizers": []}}, subresource="finalize")
    assert registry.store.get("Namespace", "", "team") is None


def test_a_pod_on_a_node_is_deleted_gracefully(registry: Registry) -> None:
    made = registry.create(pod(spec={"nodeName": "node1"}))
    marked = registry.delete("Pod", "default", "web")
    assert marked["metadata"]["deletionTimestamp"] == "2030-01-01T00:00:30Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert marked["metadata"]["generation"] == made["metadata"]["generation"] + 1
    assert registry.delete("Pod", "default", "web", grace=60) is marked
    shorter = registry.delete("Pod", "default", "web", grace=5)
    assert shorter["metadata"]["deletionTimestamp"] == "2030-01-01T00:00:05Z"
    registry.delete("Pod", "default", "web", grace=0)
    assert registry.store.get("Pod", "default", "web") is None


def test_a_pod_on_no_node_or_finished_is_deleted_at_once(registry: Registry) -> None:
    registry.create(pod())
    registry.delete("Pod", "default", "web")
    assert registry.store.get("Pod", "default", "web") is None
    registry.create(pod(spec={"nodeName": "node1"}))
    registry.patch("Pod", "default", "web", {"status": {"phase": "Succeeded"}}, subresource="status")
    registry.delete("Pod", "default", "web")
    assert registry.store.get("Pod", "default", "web") is None


def test_a_finalizer_holds_an_object_until_it_is_taken_off(registry: Registry) -> None:
    registry.create(service(metadata={"finalizers": ["example.com/wait"]}))
    marked = registry.delete("Service", "default", "web")
    assert marked["metadata"]["deletionTimestamp"] == "2030-01-01T00:00:00Z"
    registry.patch("Service", "default", "web", {"metadata": {"finalizers": None}})
    assert registry.store.get("Service", "default", "web") is None


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])],
)
def test_propagation_is_recorded_as_a_finalizer(
    registry: Registry, policy: str, finalizers: list[str]
) -> None:
    registry.create(deployment())
    marked = registry.delete("Deployment", "default", "web", propagation=policy)
    assert marked["metadata"]["finalizers"] == finalizers


def test_deletion_in_the_background_is_at_once(registry: Registry) -> None:
    registry.create(deployment())
    registry.delete("Deployment", "default", "web", propagation="Background")
    assert registry.store.get("Deployment", "default", "web") is None


def test_preconditions_of_a_deletion_are_checked(registry: Registry) -> None:
    made = registry.create(pod())
    with pytest.raises(Conflict, match="does not match the UID in record"):
        registry.delete("Pod", "default", "web", uid="another")
    with pytest.raises(Conflict, match="ResourceVersion"):
        registry.delete("Pod", "default", "web", version="1")
    registry.delete("Pod", "default", "web", uid=made["metadata"]["uid"])


def test_an_existing_name_is_refused_before_anything_is_allocated(registry: Registry) -> None:
    taken = registry.create(service(spec={"type": "NodePort"}))
    port = taken["spec"]["ports"][0]["nodePort"]
    with pytest.raises(AlreadyExists, match='services "web" already exists'):
        registry.create(service(spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}))


def test_a_node_port_in_use_or_out_of_range_is_refused(registry: Registry) -> None:
    registry.create(service(spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}))
    with pytest.raises(Invalid) as taken:
        registry.create(service("b", spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}))
    assert str(taken.value) == (
        'Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 30000: '
        "provided port is already allocated"
    )
    with pytest.raises(Invalid, match="The range of valid ports is 30000-32767"):
        registry.create(service("b", spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 99}]}))


def test_a_service_that_becomes_internal_gives_its_node_port_back(registry: Registry) -> None:
    registry.create(service(spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}))
    changed = registry.patch("Service", "default", "web", {"spec": {"type": "ClusterIP"}})
    assert "nodePort" not in changed["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in changed["spec"]
    registry.create(service("b", spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}))


def test_an_update_that_leaves_the_cluster_ip_out_keeps_it(registry: Registry) -> None:
    made = registry.create(service())
    changed = registry.update(service(spec={"ports": [{"port": 81}]}))
    assert changed["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    with pytest.raises(Invalid, match="may not change once set"):
        registry.patch(
            "Service", "default", "web", {"spec": {"clusterIP": "10.96.0.99", "clusterIPs": ["10.96.0.99"]}}
        )


def test_an_unknown_field_is_dropped_and_told(registry: Registry) -> None:
    told: list[str] = []
    made = registry.create(
        service(spec={"selektor": {"a": "b"}}), unknown=lambda obj, fields: told.extend(fields)
    )
    assert told == ["spec.selektor"]
    assert "selektor" not in made["spec"]


def test_kinds_without_behaviour_are_stored_and_unknown_ones_refused(registry: Registry) -> None:
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "kept", "labels": {"a": "b"}}}
    assert registry.create(template)["metadata"]["labels"] == {"a": "b"}
    assert not KINDS["PodTemplate"].behaviour
    with pytest.raises(BadRequest, match='no matches for kind "Servic" in version "v1"'):
        registry.create({**service(), "kind": "Servic"})


def test_an_object_that_is_being_deleted_takes_no_new_finalizers(registry: Registry) -> None:
    registry.create(service(metadata={"finalizers": ["example.com/wait"]}))
    registry.delete("Service", "default", "web")
    more = ["example.com/wait", "example.com/more"]
    with pytest.raises(Invalid, match="no new finalizers can be added if the object is being deleted"):
        registry.patch("Service", "default", "web", {"metadata": {"finalizers": more}})


def test_the_namespaces_of_the_system_cannot_be_deleted(registry: Registry) -> None:
    with pytest.raises(Forbidden, match="this namespace may not be deleted"):
        registry.delete("Namespace", "", "kube-system")


def test_the_string_data_of_a_secret_becomes_data(registry: Registry) -> None:
    secret = {**config_map("key"), "kind": "Secret", "data": None, "stringData": {"password": "abc"}}
    made = registry.create(secret)
    assert made["data"] == {"password": "YWJj"}
    assert "stringData" not in made
    assert made["type"] == "Opaque"
