"""The real kubectl, 1.20 and the newest, against the API server: every verb that moves no bytes of a pod."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.kubectl_kit import WEB, Cluster, Kubectl, cluster, newest, oldest

AUTOSCALER = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 3}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kubectl")) as made:
        yield made


@pytest.fixture(params=["1.20", "newest"])
def kubectl(request: pytest.FixtureRequest, server: Cluster, tmp_path: Path) -> Kubectl:
    return Kubectl(server, oldest() if request.param == "1.20" else newest(), tmp_path)


def test_it_finds_version_kinds_and_explanations(kubectl: Kubectl) -> None:
    assert "v1.33.0+podwire" in kubectl("version")
    assert re.search(r"^deployments +deploy +apps/v1 +true +Deployment", kubectl("api-resources"), re.M)
    versions = kubectl("api-versions").split()
    assert "discovery.k8s.io/v1" in versions
    assert ("policy/v1beta1" in versions) is (kubectl.program != newest())
    assert "nodes/proxy" in kubectl("get", "--raw", "/api/v1")
    assert kubectl("get", "--raw", "/readyz") == "ok"
    assert "readyz check passed" in kubectl("get", "--raw", "/readyz?verbose")
    assert "type determines how the Service is exposed" in kubectl("explain", "service.spec.type")
    assert "targetPort" in kubectl("explain", "service.spec", "--recursive")
    assert "https://127.0.0.1:" in kubectl("cluster-info")
    assert "token" in kubectl("config", "view", "--raw")


def test_get_shows_kubectls_own_columns(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", input=WEB)
    kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    head, *rows = kubectl("get", "pods", "-o", "wide", "-l", "app=web").splitlines()
    assert re.split(r"  +", head)[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert all(re.match(r"web-\S+ +1/1 +Running +0 +\d+s +10\.244", row) for row in rows)
    assert len(rows) == 2
    assert re.search(r"^web +ClusterIP +10\.\S+ +<none> +80/TCP +\d+s", kubectl("get", "svc"), re.M)
    assert re.search(r"^web +2/2 +2 +2 +\d+s", kubectl("get", "deploy"), re.M)
    assert re.search(r"^web\S+ +IPv4 +80 +10\.244\.\S+,10\.244", kubectl("get", "endpointslices"), re.M)
    assert re.search(r"^node1 +Ready", kubectl("get", "nodes"), re.M)
    listed = kubectl("get", "cm,secret,sa,sts,ds,ing,job,cronjob,pvc,pv,netpol,rs,ep,ns,events,leases,pdb")
    assert f"namespace/{kubectl.namespace}" in listed
    assert "serviceaccount/default" in listed
    assert kubectl("get", "all", "-o", "name").count("pod/") == 2
    assert kubectl("get", "pods", "--chunk-size=1", "-o", "name").count("pod/") == 2
    assert re.search(r"^kube-system", kubectl("get", "sa", "-A"), re.M)
    columns = kubectl("get", "svc", "-o", "custom-columns=N:.metadata.name,P:.spec.ports[*].port")
    assert re.search(r"^web +80$", columns, re.M)
    assert "No resources found" in kubectl("get", "pods", "--field-selector=status.phase=Failed")
    names = kubectl("get", "pods", "--sort-by=.metadata.name", "-o", "name").split()
    assert names == sorted(names)


def test_a_watched_table_has_one_head(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "first")
    command = [kubectl.program, "-n", kubectl.namespace, "get", "cm", "-w"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=kubectl.server.environment()
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().split() == ["NAME", "DATA", "AGE"]
        assert watching.stdout.readline().split()[:2] == ["first", "0"]
        kubectl("create", "configmap", "second", "--from-literal=a=1")
        assert watching.stdout.readline().split()[:2] == ["second", "1"]
        watching.terminate()


def test_apply_says_created_unchanged_configured_and_what_is_wrong(kubectl: Kubectl) -> None:
    assert "deployment.apps/web created" in kubectl("apply", "-f", "-", input=WEB)
    assert kubectl("apply", "-f", "-", input=WEB).count("unchanged") == 2
    second = WEB.replace("nginx:1", "nginx:2")
    file = kubectl.directory / "second.yaml"
    file.write_text(second)
    assert re.search(r"^\+ .*image: nginx:2", kubectl.fails("diff", "-f", str(file)), re.M)
    assert "configured (server dry run)" in kubectl("apply", "-f", "-", "--dry-run=server", input=second)
    assert kubectl.field("deploy/web", ".spec.template.spec.containers[0].image") == "nginx:1"
    assert "deployment.apps/web configured" in kubectl("apply", "-f", "-", input=second)
    assert kubectl.field("deploy/web", ".spec.template.spec.containers[0].image") == "nginx:2"
    wrong = kubectl.fails("apply", "-f", "-", input=WEB.replace("targetPort", "targetport"))
    assert re.search(
        r'strict decoding error: unknown field "spec.ports\[0\].targetport"'
        r'|ValidationError\(Service.spec.ports\[0\]\): unknown field "targetport"',
        wrong,
    )
    assert "no matches for kind" in kubectl.fails("apply", "-f", "-", input=WEB.replace("Service", "Servic"))


def test_server_side_apply_keeps_who_owns_what(kubectl: Kubectl) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    assert kubectl(*apply, input=WEB).count("serverside-applied") == 2
    version = kubectl.field("deploy/web", ".metadata.generation")
    kubectl(*apply, input=WEB)
    assert kubectl.field("deploy/web", ".metadata.generation") == version
    kubectl("set", "image", "deploy/web", "web=nginx:3")
    told = kubectl.fails(*apply, input=WEB)
    assert 'conflict with "kubectl-set" using apps/v1' in told
    assert '.spec.template.spec.containers[name="web"].image' in told
    kubectl(*apply, "--force-conflicts", input=WEB)
    assert kubectl.field("deploy/web", ".spec.template.spec.containers[0].image") == "nginx:1"
    kubectl("label", "deploy/web", "mine=yes")
    bare = WEB.replace(", labels: {app: web}}\nspec:\n  replicas: 2", "}\nspec:")
    kubectl(*apply, input=bare)
    labels = kubectl.field("deploy/web", ".metadata.labels")
    assert "mine" in labels
    assert "app" not in labels


def test_two_protocols_on_one_port_number_survive_a_server_side_apply(kubectl: Kubectl) -> None:
    ports = "[{name: tcp, port: 53}, {name: udp, port: 53, protocol: UDP}]"
    dns = WEB.split("---\n")[1].replace("[{port: 80, targetPort: 80}]", ports)
    for _ in range(2):
        kubectl("apply", "--server-side", "-f", "-", input=dns)
    assert kubectl.field("svc/web", ".spec.ports[*].protocol").split() == ["TCP", "UDP"]


def test_all_three_patches(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", input=WEB)
    kubectl("patch", "svc", "web", "-p", '{"spec":{"ports":[{"port":80,"targetPort":8080}]}}')
    assert kubectl.field("svc/web", ".spec.ports[*].targetPort") == "8080"
    added = '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"s"}]}}}}'
    kubectl("patch", "deploy", "web", "-p", added)
    assert set(kubectl.field("deploy/web", ".spec.template.spec.containers[*].name").split()) == {
        "web",
        "side",
    }
    kubectl("patch", "svc", "web", "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}')
    replaced = '[{"op":"replace","path":"/metadata/labels/a","value":"c"}]'
    kubectl("patch", "svc", "web", "--type=json", "-p", replaced)
    assert kubectl.field("svc/web", ".metadata.labels.a") == "c"
    missing = '[{"op":"test","path":"/metadata/labels/a","value":"x"}]'
    assert "is invalid" in kubectl.fails("patch", "svc", "web", "--type=json", "-p", missing)


def test_every_generator_is_read_also_as_protobuf(kubectl: Kubectl) -> None:
    for words in (
        "deployment web --image=nginx --replicas=2 --port=80", "configmap cm --from-literal=a=1",
        "secret generic sec --from-literal=a=1", "service clusterip cip --tcp=80:8080",
        "service nodeport np --tcp=80", "service externalname ex --external-name=a.b", "job j --image=b",
        "cronjob cj --image=b --schedule=@daily", "serviceaccount robot", "quota q --hard=pods=9",
        "ingress ing --rule=a.example/=web:80", "role r --verb=get --resource=pods",
        "rolebinding rb --role=r --user=u", f"namespace {kubectl.namespace}x",
        "pdb p --selector=app=web --min-available=1", f"priorityclass {kubectl.namespace} --value=1",
    ):  # fmt: skip
        assert "created" in kubectl("create", *words.split()), words
    assert kubectl.field("deploy/web", ".spec.replicas") == "2"
    assert kubectl.field("deploy/web", ".spec.template.spec.containers[0].ports[0].containerPort") == "80"
    assert kubectl.field("svc/cip", ".spec.ports[0].targetPort") == "8080"
    assert kubectl.field("cm/cm", ".data.a") == "1"
    assert kubectl.field("secret/sec", ".data.a") == "MQ=="
    assert "Concurrency Policy:            Allow" in kubectl("describe", "cronjob", "cj")
    assert re.search(r"^Completions: +1$", kubectl("describe", "job", "j"), re.M)
    if kubectl.program == newest():  # 1.20 knows no CronJob of batch/v1
        assert "created" in kubectl("create", "job", "now", "--from=cronjob/cj")


def test_apply_prunes_what_a_label_finds_and_a_file_no_longer_has(kubectl: Kubectl) -> None:
    labelled = WEB.replace("metadata: {name: web}", "metadata: {name: web, labels: {app: web}}")
    kubectl("apply", "-f", "-", input=labelled)
    prune = ("apply", "--prune", "-l", "app=web", "-f", "-")
    assert "pruned" not in kubectl(*prune, input=labelled)
    kubectl("create", "ingress", "web", "--rule=a.example/=web:80")
    kubectl("label", "ingress", "web", "app=web")
    last = "kubectl.kubernetes.io/last-applied-configuration={}"  # what was not applied is not pruned
    kubectl("annotate", "ingress", "web", last)
    told = kubectl(*prune, input=labelled.split("---\n")[1])
    assert re.search("ingress.(networking.k8s.io|extensions)/web pruned", told)
    assert "deployment.apps/web pruned" in told
    assert "service/web unchanged" in told


def test_a_kustomization_is_applied_and_equals_what_is_there(kubectl: Kubectl) -> None:
    (kubectl.directory / "web.yaml").write_text(WEB)
    plan = {"resources": ["web.yaml"], "namePrefix": "my-",
            "configMapGenerator": [{"name": "conf", "literals": ["a=1"]}]}  # fmt: skip
    (kubectl.directory / "kustomization.yaml").write_text(json.dumps(plan))
    assert "deployment.apps/my-web created" in kubectl("apply", "-k", str(kubectl.directory))
    assert kubectl("diff", "-k", str(kubectl.directory)) == ""


def test_replacing_by_force_and_every_kind_of_cascade(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", input=WEB)
    before = kubectl.field("deploy/web", ".metadata.uid")
    assert kubectl("replace", "--force", "-f", "-", input=WEB).count("replaced") == 2
    assert kubectl.field("deploy/web", ".metadata.uid") != before
    kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    kubectl("delete", "deploy", "web", "--cascade=orphan")
    assert kubectl("get", "rs,pods", "-o", "name").count("/web-") == 3
    kubectl("apply", "-f", "-", input=WEB)
    kubectl("delete", "deploy", "web", "--cascade=foreground", "--timeout=20s")
    assert "No resources found" in kubectl("get", "rs,pods")


def test_subresources_are_shown_patched_and_applied(server: Cluster, tmp_path: Path) -> None:
    kubectl = Kubectl(server, newest(), tmp_path)  # 1.20 has no --subresource
    kubectl("apply", "-f", "-", input=WEB)
    kubectl("patch", "deploy/web", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":1}}')
    shown = kubectl("get", "deploy", "web", "--subresource=scale").split()
    assert shown[:6] == ["NAME", "DESIRED", "AVAILABLE", "AGE", "web", "1"]
    assert kubectl("get", "deploy", "web", "--subresource=status").split()[:2] == ["NAME", "READY"]
    balanced = """
apiVersion: v1
kind: Service
metadata: {name: web}
status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}
"""
    words = ("apply", "--server-side", "--subresource=status", "-f", "-")
    assert "serverside-applied" in kubectl(*words, "--field-manager=me", input=balanced)
    assert kubectl.field("svc/web", ".status.loadBalancer.ingress[0].ip") == "203.0.113.9"
    told = kubectl.fails(*words, "--field-manager=other", input=balanced.replace("113.9", "113.8"))
    assert 'conflict with "me" with subresource "status"' in told
    gone = kubectl.fails(*words, input=balanced.replace("name: web", "name: nobody"))
    assert 'services "nobody" not found' in gone


def test_what_changes_one_object(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", input=WEB)
    assert "already exists" in kubectl.fails("create", "-f", "-", input=WEB)
    kubectl("scale", "deploy/web", "--replicas=3")
    kubectl("scale", "deploy/web", "--current-replicas=3", "--replicas=1")
    assert kubectl.field("deploy/web", ".spec.replicas") == "1"
    kubectl("label", "deploy/web", "x=y")
    kubectl("annotate", "deploy/web", "note=hello")
    kubectl("set", "env", "deploy/web", "A=b")
    kubectl("set", "image", "deploy/web", "web=nginx:5")
    kubectl("edit", "deploy/web", KUBE_EDITOR="sed -i s/nginx:5/nginx:6/")
    assert kubectl.field("deploy/web", ".spec.template.spec.containers[0].image") == "nginx:6"
    assert kubectl.field("deploy/web", ".spec.template.spec.containers[0].env[0].value") == "b"
    kubectl("expose", "deploy/web", "--name=again", "--port=81", "--type=NodePort")
    assert int(kubectl.field("svc/again", ".spec.ports[0].nodePort")) >= 30000
    kubectl("replace", "-f", "-", input=WEB)
    assert kubectl.field("deploy/web", ".spec.replicas") == "2"
    kubectl("run", "one", "--image=busybox", "--labels=app=one")
    kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=20s")
    assert "Scheduled" in kubectl("get", "events")
    assert 'pod "one" deleted' in kubectl("delete", "pod", "one", "--wait", "--timeout=20s")
    assert "deleted" in kubectl("delete", "-l", "app=web", "deploy,svc")
    assert 'pods "one" not found' in kubectl.fails("get", "pod", "one")


def test_a_rollout_is_followed_paused_and_undone(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", input=WEB)
    kubectl("set", "image", "deploy/web", "web=nginx:2")
    assert "successfully rolled out" in kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    assert re.search(r"^2 +<none>", kubectl("rollout", "history", "deploy/web"), re.M)
    kubectl("rollout", "undo", "deploy/web")
    assert kubectl.field("deploy/web", ".spec.template.spec.containers[0].image") == "nginx:1"
    kubectl("rollout", "restart", "deploy/web")
    kubectl("rollout", "pause", "deploy/web")
    assert kubectl.field("deploy/web", ".spec.paused") == "true"
    kubectl("rollout", "resume", "deploy/web")
    kubectl("rollout", "status", "deploy/web", "--timeout=20s")


def test_a_manifests_autoscaler_is_stored_with_a_warning(kubectl: Kubectl) -> None:
    told = kubectl("apply", "--server-side", "-f", "-", input=AUTOSCALER)
    assert "horizontalpodautoscaler.autoscaling/web" in told
    kubectl("delete", "-f", "-", input=AUTOSCALER)
    kubectl("apply", "-f", "-", input=AUTOSCALER)
    assert re.search(r"Reference: +Deployment/web", kubectl("describe", "hpa"))
    kubectl("delete", "-f", "-", input=AUTOSCALER)
