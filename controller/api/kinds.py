"""Every Kubernetes kind this API serves, as one table of data.

A row says where a kind lives in the URL space and whether anything here acts on it. Kinds with
``behaviour=False`` are stored, served and answered with a Warning; a kind that is no row is refused.
To serve one more kind, add a row. No rules about the contents of objects belong here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind. ``group`` is empty for the core group; ``plural`` is the word in the URL."""

    group: str = ""
    version: str = "v1"
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    behaviour: bool = False

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @property
    def resource(self) -> str:
        """The name in messages: ``pods``, ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """The URL path of the collection, the object or its subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts += [name, subresource] if subresource else [name]
        return "/" + "/".join(parts)


_ALL = ("all",)
_STATUS = ("status",)
_SCALE = ("status", "scale")

_ROWS = (
    # What the lab acts on.
    Kind(kind="Namespace", plural="namespaces", namespaced=False, short_names=("ns",),
         subresources=("status", "finalize"), behaviour=True),
    Kind(kind="Node", plural="nodes", namespaced=False, short_names=("no",),
         subresources=("status", "proxy"), behaviour=True),
    Kind(kind="Pod", plural="pods", short_names=("po",), categories=_ALL,
         subresources=("status", "attach", "binding", "eviction", "exec", "log", "portforward", "proxy"),
         behaviour=True),
    Kind(kind="Service", plural="services", short_names=("svc",), categories=_ALL,
         subresources=("status", "proxy"), behaviour=True),
    Kind(kind="Endpoints", plural="endpoints", short_names=("ep",), behaviour=True),
    Kind(kind="Event", plural="events", short_names=("ev",), behaviour=True),
    Kind(group="apps", kind="Deployment", plural="deployments", short_names=("deploy",), categories=_ALL,
         subresources=_SCALE, behaviour=True),
    Kind(group="apps", kind="ReplicaSet", plural="replicasets", short_names=("rs",), categories=_ALL,
         subresources=_SCALE, behaviour=True),
    Kind(kind="ReplicationController", plural="replicationcontrollers", short_names=("rc",), categories=_ALL,
         subresources=_SCALE, behaviour=True),
    Kind(group="apps", kind="StatefulSet", plural="statefulsets", short_names=("sts",), categories=_ALL,
         subresources=_SCALE, behaviour=True),
    Kind(group="apps", kind="DaemonSet", plural="daemonsets", short_names=("ds",), categories=_ALL,
         subresources=_STATUS, behaviour=True),
    Kind(group="apps", kind="ControllerRevision", plural="controllerrevisions", behaviour=True),
    Kind(group="discovery.k8s.io", kind="EndpointSlice", plural="endpointslices", behaviour=True),
    Kind(group="networking.k8s.io", kind="ServiceCIDR", plural="servicecidrs", namespaced=False,
         subresources=_STATUS, behaviour=True),
    Kind(group="networking.k8s.io", kind="IPAddress", plural="ipaddresses", namespaced=False,
         short_names=("ip",), behaviour=True),
    Kind(kind="ServiceAccount", plural="serviceaccounts", short_names=("sa",), subresources=("token",),
         behaviour=True),
    Kind(kind="ConfigMap", plural="configmaps", short_names=("cm",), behaviour=True),
    Kind(kind="Secret", plural="secrets", behaviour=True),
    # What is stored and served, with a Warning.
    Kind(kind="PersistentVolumeClaim", plural="persistentvolumeclaims", short_names=("pvc",),
         subresources=_STATUS),
    Kind(kind="PersistentVolume", plural="persistentvolumes", namespaced=False, short_names=("pv",),
         subresources=_STATUS),
    Kind(kind="PodTemplate", plural="podtemplates"),
    Kind(kind="LimitRange", plural="limitranges", short_names=("limits",)),
    Kind(kind="ResourceQuota", plural="resourcequotas", short_names=("quota",), subresources=_STATUS),
    Kind(group="batch", kind="Job", plural="jobs", categories=_ALL, subresources=_STATUS),
    Kind(group="batch", kind="CronJob", plural="cronjobs", short_names=("cj",), categories=_ALL,
         subresources=_STATUS),
    Kind(group="networking.k8s.io", kind="Ingress", plural="ingresses", short_names=("ing",),
         subresources=_STATUS),
    Kind(group="networking.k8s.io", kind="IngressClass", plural="ingressclasses", namespaced=False),
    Kind(group="networking.k8s.io", kind="NetworkPolicy", plural="networkpolicies", short_names=("netpol",)),
    Kind(group="autoscaling", version="v2", kind="HorizontalPodAutoscaler",
         plural="horizontalpodautoscalers", short_names=("hpa",), categories=_ALL, subresources=_STATUS),
    Kind(group="policy", kind="PodDisruptionBudget", plural="poddisruptionbudgets", short_names=("pdb",),
         subresources=_STATUS, behaviour=True),
    Kind(group="rbac.authorization.k8s.io", kind="Role", plural="roles"),
    Kind(group="rbac.authorization.k8s.io", kind="RoleBinding", plural="rolebindings"),
    Kind(group="rbac.authorization.k8s.io", kind="ClusterRole", plural="clusterroles", namespaced=False),
    Kind(group="rbac.authorization.k8s.io", kind="ClusterRoleBinding", plural="clusterrolebindings",
         namespaced=False),
    Kind(group="storage.k8s.io", kind="StorageClass", plural="storageclasses", namespaced=False,
         short_names=("sc",)),
    Kind(group="scheduling.k8s.io", kind="PriorityClass", plural="priorityclasses", namespaced=False,
         short_names=("pc",)),
    Kind(group="coordination.k8s.io", kind="Lease", plural="leases", behaviour=True),
)  # fmt: skip

KINDS: Mapping[str, Kind] = MappingProxyType({row.kind: row for row in _ROWS})
"""Kind name -> row, in the order discovery shows them."""

BY_PATH: Mapping[tuple[str, str, str], Kind] = MappingProxyType(
    {(row.group, row.version, row.plural): row for row in _ROWS}
)
"""(group, version, plural) -> row."""

GROUP_VERSIONS: tuple[tuple[str, str], ...] = tuple(dict.fromkeys((row.group, row.version) for row in _ROWS))
