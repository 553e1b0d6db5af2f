"""What the rules say, word for word as Kubernetes says it: one row an object, all its errors."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.defaults import set_defaults
from controller.api.errors import BadRequest
from controller.api.objects import Obj
from controller.api.validate import decode, problems
from tests.unit.api_kit import deployment, pod, service

TARGET = 'spec.ports[0].targetPort: Invalid value: "much_too_long_nam"'
LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def errors(obj: Obj, old: Obj | None = None) -> list[str]:
    made, report = decode(obj)
    set_defaults(made, old)
    return [str(error) for error in problems(made, old, report.missing)]


def container(**changes: Any) -> Obj:
    return pod(spec={"containers": [{"name": "web", "image": "web:1", **changes}]})


def ports(*each: Obj, **more: Any) -> Obj:
    return service(spec={"ports": list(each), **more})


SLICE = {
    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
    "metadata": {"name": "web-x", "namespace": "default"},
    "endpoints": [{"addresses": ["10.244.1.2"]}], "ports": [{"port": 80}],
}  # fmt: skip


@pytest.mark.parametrize(
    "obj",
    [
        pod(), service(), deployment(), SLICE,
        service(spec={"type": "ExternalName", "externalName": "example.com", "ports": None}),
        service(spec={"clusterIP": "None", "ports": None}),
        ports({"port": 53, "name": "udp", "protocol": "UDP"}, {"port": 53, "name": "tcp"}),
        ports({"port": 80, "targetPort": "http"}),
        service(spec={"sessionAffinity": "ClientIP"}),
        container(readinessProbe={"httpGet": {"port": 80}}, env=[{"name": "A.b-c", "value": "x"}]),
        deployment(spec={"strategy": {"type": "Recreate"}}),
    ],
)  # fmt: skip
def test_a_right_object_has_no_errors(obj: Obj) -> None:
    assert errors(obj) == []


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (service(spec={"ports": None}), ["spec.ports: Required value"]),
        (ports({"port": 80}, {"port": 81, "name": "b"}), ["spec.ports[0].name: Required value"]),
        (
            ports({"port": 80, "name": "a"}, {"port": 81, "name": "a"}),
            ['spec.ports[1].name: Duplicate value: "a"'],
        ),
        (
            ports({"port": 80, "name": "a"}, {"port": 80, "name": "b"}),
            ['spec.ports[1]: Duplicate value: {"protocol": "TCP", "port": 80}'],
        ),
        (ports({"name": "a"}), ["spec.ports[0].port: Required value"]),
        (
            ports({"port": 0}),
            ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
        ),
        (
            ports({"port": 80, "targetPort": 65536}),
            ["spec.ports[0].targetPort: Invalid value: 65536: must be between 1 and 65535, inclusive"],
        ),
        (
            ports({"port": 80, "targetPort": "much_too_long_nam"}),
            [
                f"{TARGET}: must be no more than 15 characters",
                f"{TARGET}: must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ],
        ),
        (
            ports({"port": 80, "protocol": "HTTP"}),
            ['spec.ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"'],
        ),
        (
            service(spec={"type": "Nodeport"}),
            [
                'spec.type: Unsupported value: "Nodeport": supported values: "ClusterIP", "ExternalName", '
                '"LoadBalancer", "NodePort"'
            ],
        ),
        (
            ports({"port": 80, "nodePort": 30000}),
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            service(spec={"type": "NodePort", "clusterIP": "None"}),
            ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        (
            service(spec={"externalTrafficPolicy": "Local"}),
            [
                'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for '
                "externally-accessible services"
            ],
        ),
        (
            service(
                spec={
                    "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}},
                }
            ),
            [
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater "
                "than 0 and less than 86400"
            ],
        ),
        (
            service(
                spec={
                    "trafficDistribution": "Near",
                    "healthCheckNodePort": 31000,
                    "externalIPs": ["127.0.0.1", "0.0.0.0", "224.0.0.9", "fe80::1"],
                }
            ),
            [
                "spec.healthCheckNodePort: Invalid value: 31000: may only be set when `type` is "
                "'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
                'spec.trafficDistribution: Unsupported value: "Near": supported values: "PreferClose", '
                '"PreferSameNode", "PreferSameZone"',
                'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range '
                "(127.0.0.0/8, ::1/128)",
                'spec.externalIPs[1]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0 or ::)',
                'spec.externalIPs[2]: Invalid value: "224.0.0.9": may not be in the link-local multicast '
                "range (224.0.0.0/24, ff02::/10)",
                'spec.externalIPs[3]: Invalid value: "fe80::1": may not be in the link-local range '
                "(169.254.0.0/16, fe80::/10)",
            ],
        ),
        (
            {**SLICE, "endpoints": [{"addresses": ["127.0.0.1"]}]},
            [
                'endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range '
                "(127.0.0.0/8, ::1/128)"
            ],
        ),
        (
            service(spec={"type": "ExternalName", "ports": None}),
            ["spec.externalName: Required value"],
        ),
        (
            pod(metadata={"name": "Web"}),
            [
                'metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain must consist of lower '
                "case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
                "character (e.g. 'example.com', regex used for validation is "
                f"'{LABEL}(\\.{LABEL})*')"
            ],
        ),
        (
            pod(metadata={"labels": {"app": "a b"}}),
            [
                'metadata.labels: Invalid value: "a b": a valid label must be an empty string or consist of '
                "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
                "character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ],
        ),
        (pod(spec={"containers": []}), ["spec.containers: Required value"]),
        (
            pod(spec={"containers": [{"name": "a"}, {"name": "a", "image": "i"}]}),
            ["spec.containers[0].image: Required value", 'spec.containers[1].name: Duplicate value: "a"'],
        ),
        (
            container(ports=[{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]),
            ['spec.containers[0].ports[1].name: Duplicate value: "a"'],
        ),
        (
            container(livenessProbe={"periodSeconds": 1}),
            ["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            container(livenessProbe={"httpGet": {"port": 80}, "successThreshold": 2}),
            ["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        (
            container(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
            ['spec.containers[0].volumeMounts[0].name: Not found: "data"'],
        ),
        (
            pod(spec={"restartPolicy": "Sometimes"}),
            [
                'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", '
                '"Never", "OnFailure"'
            ],
        ),
        (
            deployment(spec={"selector": {"matchLabels": {"app": "db"}}}),
            [
                'spec.template.metadata.labels: Invalid value: {"app": "web"}: `selector` does not match '
                "template `labels`"
            ],
        ),
        (deployment(spec={"selector": None}), ["spec.selector: Required value"]),
        (
            deployment(spec={"replicas": -1}),
            ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            deployment(spec={"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}),
            [
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is "
                "'Recreate'"
            ],
        ),
        (
            deployment(spec={"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            [
                'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when '
                "`maxSurge` is 0"
            ],
        ),
        (
            {**SLICE, "endpoints": [{"addresses": ["fd00::1"]}]},
            ['endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address'],
        ),
        (
            {**SLICE, "ports": [{"port": 80}, {"port": 81}]},
            ['ports[1].name: Duplicate value: ""'],
        ),
    ],
)
def test_a_wrong_object_is_told_all_its_errors(obj: Obj, expected: list[str]) -> None:
    assert errors(obj) == expected


def test_a_field_the_schema_requires_is_named(request: pytest.FixtureRequest) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"},
        "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Exact"}]}}]},
    }  # fmt: skip
    assert errors(policy) == ["spec.rules[0].http.paths[0].backend: Required value"]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (ports({"port": "eighty"}), 'spec.ports[0].port: expected integer, got string "eighty"'),
        (ports({"port": True}), "spec.ports[0].port: expected integer, got boolean true"),
        (ports({"port": 2**31}), "spec.ports[0].port: expected integer below 2147483648"),
        (
            ports({"port": 80, "targetPort": [1]}),
            "spec.ports[0].targetPort: expected integer or string, got array",
        ),
        (service(spec={"selector": {"a": 1}}), "spec.selector[a]: expected string, got integer 1"),
        (pod(spec={"containers": {}}), "spec.containers: expected array, got object"),
        ({**pod(), "spec": "x"}, 'spec: expected object, got string "x"'),
        ({**pod(), "metadata": []}, "metadata: expected object, got array"),
    ],
)
def test_a_field_of_the_wrong_type_is_a_bad_request_that_names_it(obj: Obj, expected: str) -> None:
    with pytest.raises(BadRequest) as raised:
        decode(obj)
    assert expected in str(raised.value)
    assert f"cannot be handled as a {obj['kind']}" in str(raised.value)


def test_nulls_are_absent_fields_and_whole_floats_are_integers() -> None:
    made, report = decode(
        {**pod(), "status": None, "spec": {"priority": 1.0, "nodeName": None, "containers": []}}
    )
    assert made["spec"] == {"priority": 1, "containers": []}
    assert "status" not in made
    assert report.unknown == []


def test_a_selector_cannot_be_changed() -> None:
    made, _ = decode(deployment())
    set_defaults(made)
    changed = deployment(
        spec={"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}
    )
    assert errors(changed, made) == [
        'spec.selector: Invalid value: {"matchLabels": {"app": "b"}}: field is immutable'
    ]


def test_a_pod_s_spec_cannot_be_changed_but_for_its_images() -> None:
    made, _ = decode(pod())
    set_defaults(made)
    assert errors({**made, "spec": {**made["spec"], "hostname": "other"}}, made)[0].startswith(
        "spec: Forbidden: pod updates may not change fields other than"
    )
    container = {**made["spec"]["containers"][0], "image": "web:2"}
    assert errors({**made, "spec": {**made["spec"], "containers": [container]}}, made) == []


def test_a_load_balancer_s_class_may_not_change_while_it_is_one() -> None:
    made, _ = decode(service(spec={"type": "LoadBalancer", "loadBalancerClass": "example.com/a"}))
    set_defaults(made)
    other = {**made, "spec": {**made["spec"], "loadBalancerClass": "example.com/b"}}
    assert errors(made, made) == []
    assert errors(other, made) == [
        'spec.loadBalancerClass: Invalid value: "example.com/b": may not change once set'
    ]
    assert errors(service(spec={**made["spec"], "type": "NodePort"}), made) == [
        "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
    ]
