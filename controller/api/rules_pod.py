"""Kubernetes' rules about Pods and pod templates, in Kubernetes' words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.api import rules_metadata as rules
from controller.api.objects import Obj
from controller.api.rules_service import PROTOCOLS
from controller.api.status import DUPLICATE, FORBIDDEN, INVALID, NOT_FOUND, REQUIRED, FieldError

_HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
_ENV_NAME = re.compile(r"[ -<>-~]+")
_ENV_TEXT = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_IMMUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def pod(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from pod_spec(spec, "spec")
    if old is not None and _fixed(spec) != _fixed(old["spec"]):
        yield FieldError("spec", FORBIDDEN, _IMMUTABLE)


def _fixed(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a Pod's spec an update may not change."""
    left = {
        word: value for word, value in spec.items() if word not in ("activeDeadlineSeconds", "tolerations")
    }
    for word in ("containers", "initContainers"):
        if word in left:
            left[word] = [{**container, "image": ""} for container in left[word]]
    return left


def pod_spec(spec: Mapping[str, Any], field: str, claims: Iterable[Any] = ()) -> Iterator[FieldError]:
    """``claims``: volumes that are there beside the spec's own."""
    containers = spec.get("containers") or []
    if not containers:
        yield FieldError(f"{field}.containers", REQUIRED)
    volumes = {*claims, *(volume.get("name") for volume in spec.get("volumes") or ())}
    for word in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(word) or ()):
            host = bool(spec.get("hostNetwork"))
            yield from _container(container, f"{field}.{word}[{index}]", volumes, host)
    both = [*containers, *(spec.get("initContainers") or ())]
    for error in rules.duplicates("", "name", both):
        at = int(error.field[1 : error.field.index("]")])
        word, at = ("containers", at) if at < len(containers) else ("initContainers", at - len(containers))
        yield FieldError(f"{field}.{word}[{at}].name", DUPLICATE, value=error.value)
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from rules.is_valid(f"{field}.volumes[{index}].name", volume.get("name") or "", rules.dns_label)
    yield from rules.duplicates(f"{field}.volumes", "name", spec.get("volumes") or [])
    restart, policy = ("Always", "OnFailure", "Never"), spec.get("dnsPolicy")
    yield from rules.one_of(f"{field}.restartPolicy", spec.get("restartPolicy"), restart)
    policies = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
    yield from rules.one_of(f"{field}.dnsPolicy", policy, policies)
    if policy == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield FieldError(f"{field}.dnsConfig.nameservers", REQUIRED, text)
    period = f"{field}.terminationGracePeriodSeconds"
    yield from rules.not_negative(period, spec.get("terminationGracePeriodSeconds"))
    yield from rules.labels(f"{field}.nodeSelector", spec.get("nodeSelector"))
    for word, check in (("hostname", rules.dns_label), ("subdomain", rules.dns_label),
                        ("nodeName", rules.dns_subdomain)):  # fmt: skip
        if spec.get(word):
            yield from rules.is_valid(f"{field}.{word}", spec[word], check)
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        path = f"{field}.hostAliases[{index}]"
        yield from rules.is_valid(f"{path}.ip", alias.get("ip") or "", rules.address)
        for at, name in enumerate(alias.get("hostnames") or ()):
            yield from rules.is_valid(f"{path}.hostnames[{at}]", name, rules.dns_subdomain)


def _container(container: Obj, path: str, volumes: set[Any], host_network: bool) -> Iterator[FieldError]:
    if container.get("name"):
        yield from rules.is_valid(f"{path}.name", container["name"], rules.dns_label)
    else:
        yield FieldError(f"{path}.name", REQUIRED)
    if not container.get("image"):
        yield FieldError(f"{path}.image", REQUIRED)
    elif container["image"] != container["image"].strip():
        text = "must not have leading or trailing whitespace"
        yield FieldError(f"{path}.image", INVALID, text, container["image"])
    pulls = ("Always", "IfNotPresent", "Never")
    yield from rules.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), pulls)
    yield from _container_ports(container.get("ports") or [], f"{path}.ports", host_network)
    for index, variable in enumerate(container.get("env") or ()):
        yield from _variable(variable, f"{path}.env[{index}]")
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        at = f"{path}.volumeMounts[{index}]"
        if not mount.get("name"):
            yield FieldError(f"{at}.name", REQUIRED)
        elif mount["name"] not in volumes:
            yield FieldError(f"{at}.name", NOT_FOUND, value=mount["name"])
        if not mount.get("mountPath"):
            yield FieldError(f"{at}.mountPath", REQUIRED)
    for word in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(word) is not None:
            yield from _probe(container[word], f"{path}.{word}", word)


def _container_ports(ports: list[Obj], path: str, host_network: bool) -> Iterator[FieldError]:
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        if not port.get("containerPort"):
            yield FieldError(f"{at}.containerPort", REQUIRED)
        else:
            yield from rules.is_valid(f"{at}.containerPort", port["containerPort"], rules.port_number)
        if port.get("hostPort"):
            yield from rules.is_valid(f"{at}.hostPort", port["hostPort"], rules.port_number)
            if host_network and port["hostPort"] != port.get("containerPort"):
                text = "must match `hostPort` when `hostNetwork` is true"
                yield FieldError(f"{at}.containerPort", INVALID, text, port.get("containerPort"))
        if port.get("name"):
            yield from rules.is_valid(f"{at}.name", port["name"], rules.port_name)
        yield from rules.one_of(f"{at}.protocol", port.get("protocol"), PROTOCOLS)
    yield from rules.duplicates(path, "name", ports)


def _variable(variable: Obj, path: str) -> Iterator[FieldError]:
    name = variable.get("name")
    if not name:
        yield FieldError(f"{path}.name", REQUIRED)
    elif not _ENV_NAME.fullmatch(name):
        yield FieldError(f"{path}.name", INVALID, _ENV_TEXT, name)
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        text = "may not be specified when `value` is not empty"
        yield FieldError(f"{path}.valueFrom", INVALID, text, "")
    if len(source) != 1:
        which = "may not have more than one field specified at a time" if source else (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        )  # fmt: skip
        yield FieldError(f"{path}.valueFrom", INVALID, which, "")


def _probe(probe: Obj, path: str, word: str) -> Iterator[FieldError]:
    handlers = [handler for handler in _HANDLERS if probe.get(handler) is not None]
    if not handlers:
        yield FieldError(path, REQUIRED, "must specify a handler type")
    for handler in handlers[1:]:
        yield FieldError(f"{path}.{handler}", FORBIDDEN, "may not specify more than 1 handler type")
    for handler in handlers[:1]:
        at, about = f"{path}.{handler}", probe[handler]
        if handler == "exec":
            if not about.get("command"):
                yield FieldError(f"{at}.command", REQUIRED)
            continue
        port = about.get("port")
        if isinstance(port, str):
            yield from rules.is_valid(f"{at}.port", port, rules.port_name)
        else:
            yield from rules.is_valid(f"{at}.port", port or 0, rules.port_number)
        if handler == "httpGet":
            yield from rules.one_of(f"{at}.scheme", about.get("scheme"), ("HTTP", "HTTPS"))
    seconds = (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    )
    for name in seconds:
        yield from rules.not_negative(f"{path}.{name}", probe.get(name))
    if word != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        yield FieldError(f"{path}.successThreshold", INVALID, "must be 1", probe["successThreshold"])
