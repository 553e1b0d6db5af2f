"""What a pod's volumes hold and where they are mounted, without a machine."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.objects import Obj
from topo.images.image import Container, Mount, Volume
from topo.kubelet_volumes import MountError, left_out, mounts_of, references, volumes_of

DATA = {("ConfigMap", "ns", "c"): {"a": "A", "b": "B"}, ("Secret", "ns", "s"): {"key": "K"}}


def pod(*volumes: Obj) -> Obj:
    return {
        "metadata": {"name": "web", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": 'o"ne'}},
        "spec": {"containers": [{"name": "main"}], "volumes": list(volumes)},
    }


def made(source: Obj) -> Volume:
    (volume,) = volumes_of(
        pod({"name": "v", **source}),
        fields={"status.podIP": "10.244.1.2"},
        credentials={"token": "T", "ca.crt": "CA"},
        lookup=lambda *at: DATA.get(at),
    )
    return volume


def mounts(*entries: Any) -> tuple[Mount, ...]:
    return mounts_of({"volumeMounts": list(entries)}, {"POD": "web"})


def test_a_config_map_is_a_file_a_key_or_those_items_that_are_named() -> None:
    assert made({"configMap": {"name": "c"}}).files == {"a": "A", "b": "B"}
    some = made({"configMap": {"name": "c", "items": [{"key": "b", "path": "x/y", "mode": 0o600}]}})
    assert (some.files, some.modes) == ({"x/y": "B"}, {"x/y": 0o600})


def test_a_secret_has_its_default_mode() -> None:
    assert made({"secret": {"secretName": "s", "defaultMode": 0o400}}).modes == {"key": 0o400}


@pytest.mark.parametrize(
    "source",
    [
        {"configMap": {"name": "none"}},
        {"secret": {"secretName": "none"}},
        {"configMap": {"name": "c", "items": [{"key": "none", "path": "x"}]}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "../x"}]}},
    ],
)
def test_what_is_missing_or_leads_outside_makes_the_pod_wait(source: Obj) -> None:
    with pytest.raises(MountError):
        made(source)


def test_what_is_optional_may_be_missing() -> None:
    assert made({"secret": {"secretName": "none", "optional": True}}).files == {}


def test_a_projected_volume_holds_all_of_its_sources() -> None:
    labels = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    sources = [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt"}},
        {"downwardAPI": labels},
        {"secret": {"name": "s"}},
    ]
    files = made({"projected": {"sources": sources}}).files
    assert files == {"token": "T", "ca.crt": "CA", "labels": 'a="o\\"ne"\nb="2"', "key": "K"}


def test_a_directory_is_the_pods_or_the_claims_and_bounded() -> None:
    assert made({"emptyDir": {"sizeLimit": "2Mi"}}) == Volume(name="v", shared="pod_u_v", size=2 << 20)
    assert made({"emptyDir": {"sizeLimit": "9Ti"}}).size == 512 << 20
    claim = made({"persistentVolumeClaim": {"claimName": "../d"}})
    assert claim.shared == "claim_ns_..%2Fd"


def test_mounts_come_the_outer_ones_first_and_sub_paths_stay_inside() -> None:
    inner = {"name": "v", "mountPath": "/data/in/", "subPathExpr": "$(POD)", "readOnly": True}
    assert mounts(inner, {"name": "w", "mountPath": "/data"}) == (
        Mount(volume="w", path="/data"),
        Mount(volume="v", path="/data/in", sub_path="web", read_only=True),
    )
    with pytest.raises(MountError):
        mounts({"name": "v", "mountPath": "/data", "subPath": "../../etc"})


def test_a_path_that_the_machine_has_read_only_is_left_out_and_told() -> None:
    at = {"name": "v", "mountPath": "/usr/share/no-such/html"}
    assert mounts(at, {"name": "v", "mountPath": "/proc/x"}) == ()
    assert list(left_out(pod({"name": "v", "emptyDir": {}}), {"volumeMounts": [at]})) == [
        "v is not mounted: /usr/share/no-such/html is read-only here"
    ]
    plain = {"volumeMounts": [{"name": "v", "mountPath": "/x"}]}
    assert list(left_out(pod({"name": "v", "emptyDir": {}}), plain)) == []
    (text,) = left_out(pod({"name": "v", "hostPath": {"path": "/etc"}}), plain)
    assert text == "v is an empty directory: podwire has no hostPath"


def test_references_name_what_must_be_fetched() -> None:
    sources = [{"secret": {"name": "s"}}, {"configMap": {"name": "c"}}]
    found = references(pod({"name": "v", "projected": {"sources": sources}}, {"name": "w", "emptyDir": {}}))
    assert found == {("Secret", "s"), ("ConfigMap", "c")}


def test_volumes_travel_to_the_runtime_whole() -> None:
    volumes = (made({"configMap": {"name": "c"}}), made({"emptyDir": {}}))
    sent = Container(
        id="1", name="m", image="i", pod="p", namespace="ns", node="n", netns="/x",
        volumes=volumes, mounts=mounts({"name": "v", "mountPath": "/data"}),
    )  # fmt: skip
    assert Container.from_json(sent.to_json()) == sent
