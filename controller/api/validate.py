"""Whether an object may be written: published schemas, then Kubernetes' own rules by kind.

``decode`` is the first half (types, unknown fields, nulls), ``problems`` the second; defaults belong
between them. Pure. The registry raises what they find; ``manifests`` reports it by file and document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from controller.api import (
    rules_endpoints,
    rules_ingress,
    rules_metadata,
    rules_network,
    rules_pod,
    rules_service,
    rules_workload,
)
from controller.api.errors import BadRequest
from controller.api.objects import Obj
from controller.api.schema import Report, clean
from controller.api.status import INVALID, REQUIRED, FieldError, invalid

Rule = Callable[[Obj, Obj | None], Iterator[FieldError]]
RULES: Mapping[str, Rule] = {
    "Service": rules_service.service,
    "Pod": rules_pod.pod,
    "Deployment": rules_workload.deployment,
    "ReplicaSet": rules_workload.replica_set,
    "ReplicationController": rules_workload.replication_controller,
    "StatefulSet": rules_workload.stateful_set,
    "DaemonSet": rules_workload.daemon_set,
    "ServiceCIDR": rules_network.service_cidr,
    "IPAddress": rules_network.ip_address,
    "Ingress": rules_ingress.ingress,
    "IngressClass": rules_ingress.ingress_class,
    "EndpointSlice": rules_endpoints.endpoint_slice,
    "Endpoints": rules_endpoints.endpoints,
    "Event": rules_endpoints.event,
}
"""Kind -> what is wrong with (object, the one it replaces or None). Other kinds: metadata and schema."""

_IMMUTABLE_DATA = ("data", "binaryData", "stringData")


def decode(obj: Obj) -> tuple[Obj, Report]:
    """A clean copy of an object from outside. Raises BadRequest when a field has the wrong type."""
    made, report = clean(obj)
    if report.wrong:
        told = "; ".join(f"{path or 'the object'}: {text}" for path, text in report.wrong)
        raise BadRequest(
            f'{obj["kind"]} in version "{obj["apiVersion"]}" cannot be handled as a {obj["kind"]}: {told}'
        )
    return made, report


def problems(obj: Obj, old: Obj | None = None, missing: Sequence[str] = ()) -> list[FieldError]:
    """Everything that is wrong with a decoded object with its defaults set."""
    found = list(rules_metadata.metadata(obj))
    if old is not None:
        found += rules_metadata.no_new_finalizers(obj, old)
    rule = RULES.get(obj["kind"])
    if rule:
        found += rule(obj, old)
    elif old is not None and old.get("immutable") is True:
        for word in _IMMUTABLE_DATA:
            if obj.get(word) != old.get(word):
                found.append(FieldError(word, INVALID, "field is immutable when `immutable` is set", ""))
    named = {error.field for error in found}
    found += [
        FieldError(path, REQUIRED)
        for path in missing
        if path not in named and not path.startswith(("status.", "metadata."))
        and not any(path.startswith(f"{field}.") for field in named)
    ]  # fmt: skip
    return found


def check(obj: Obj, old: Obj | None = None, missing: Sequence[str] = ()) -> None:
    """Raise Invalid with everything that is wrong."""
    found = problems(obj, old, missing)
    if found:
        raise invalid(obj["kind"], obj["metadata"]["name"], found)
