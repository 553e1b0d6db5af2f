"""Volumes in a running lab: what containers share, what they read, what outlives a pod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.objects import Obj
from tests.net.leaks import until
from topo.config import ClusterConfig
from topo.lab import Lab

SLEEP = ["sh", "-c", "sleep 1000"]


def container(name: str, command: list[str], **mounts: Any) -> Obj:
    made = [{"name": n, **(m if isinstance(m, dict) else {"mountPath": m})} for n, m in mounts.items()]
    return {"name": name, "image": "busybox", "command": command, "volumeMounts": made}


def obj(kind: str, name: str, **parts: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        **parts,
    }


POD = obj(
    "Pod",
    "reader",
    spec={
        "terminationGracePeriodSeconds": 0,
        "volumes": [
            {"name": "shared", "emptyDir": {}},
            {"name": "config", "configMap": {"name": "settings"}},
            {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
            {
                "name": "about",
                "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
            },
        ],
        "containers": [
            container("writer", ["sh", "-c", "echo hello >/data/x; sleep 1000"], shared="/data"),
            container(
                "main",
                SLEEP,
                shared="/in/data",
                config={"mountPath": "/etc/app/one.conf", "subPath": "one.conf"},
                keys="/var/run/keys",
                about="/about",
            ),
        ],
    },
)
SET = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "db", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "db"}},
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
        ],
        "template": {
            "metadata": {"labels": {"app": "db"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [container("main", SLEEP, data="/data")],
            },
        },
    },
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=1)) as lab:
        lab.apply(
            obj("ConfigMap", "settings", data={"one.conf": "one\n", "two.conf": "two\n"}),
            obj("Secret", "keys", stringData={"key": "s3cret"}),
            POD,
            SET,
        )
        for name in ("reader", "db-0"):
            until(f"{name} runs", lambda name=name: runs(lab, name))  # type: ignore[misc]
        yield lab


def runs(lab: Lab, name: str) -> bool:
    found = [pod for pod in lab.client.list("Pod", "default")[0] if pod["metadata"]["name"] == name]
    states = [state for pod in found for state in pod.get("status", {}).get("containerStatuses") or ()]
    return bool(states) and all("running" in state["state"] for state in states)


def uid_of(lab: Lab) -> str:
    return str(lab.client.get("Pod", "db-0", "default")["metadata"]["uid"])


def said(lab: Lab, pod: str, command: str, name: str = "main") -> str:
    done = lab.runtime.run(pod, ["sh", "-c", command], container=name)
    return f"{done.stdout}{done.stderr}"


def test_containers_of_a_pod_share_an_empty_directory(lab: Lab) -> None:
    until("the writer has written", lambda: said(lab, "reader", "cat /in/data/x") == "hello\n")


def test_a_sub_path_is_one_file_of_a_config_map_and_read_only(lab: Lab) -> None:
    assert said(lab, "reader", "cat /etc/app/one.conf; ls /etc/app") == "one\none.conf\n"
    assert "Read-only file system" in said(lab, "reader", "echo x >/etc/app/one.conf")


def test_a_secret_has_its_mode(lab: Lab) -> None:
    assert said(lab, "reader", "cat /run/keys/key; stat -c ' %a' /run/keys/key") == "s3cret 400\n"


def test_labels_are_a_file(lab: Lab) -> None:
    assert said(lab, "reader", "cat /about/labels") == 'app="reader"'


def test_nothing_of_the_making_of_volumes_is_left_in_a_box(lab: Lab) -> None:
    assert "No such file" in said(lab, "reader", "ls /.volumes")


def test_a_claim_outlives_its_pod(lab: Lab) -> None:
    said(lab, "db-0", "echo kept >/data/x")
    uid = uid_of(lab)
    lab.client.delete("Pod", "db-0", "default", grace=0)
    until("another db-0 runs", lambda: runs(lab, "db-0") and uid_of(lab) != uid)
    assert said(lab, "db-0", "cat /data/x") == "kept\n"


def test_a_pod_waits_for_a_secret_that_is_missing(lab: Lab) -> None:
    spec = {
        "volumes": [{"name": "late", "secret": {"secretName": "late"}}],
        "containers": [container("main", SLEEP, late="/late")],
    }
    lab.apply(obj("Pod", "waits", spec=spec))

    def told() -> bool:
        return any(event["reason"] == "FailedMount" for event in lab.client.list("Event", "default")[0])

    until("it is told", told)
    lab.apply(obj("Secret", "late", stringData={"a": "b"}))
    until("it runs", lambda: runs(lab, "waits"))
    assert said(lab, "waits", "cat /late/a") == "b"
