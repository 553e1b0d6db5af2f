"""The ingress controllers of a lab as ``settle`` sees them: nobody starts one, a manifest may.

What they do is ``controller.ingress``'.
"""

from __future__ import annotations

from controller.api.access import INGRESS
from controller.api.client import Client
from controller.api.objects import Obj, is_deleting, is_ready
from topo.images.table import INGRESS_NGINX, find

SELECTOR = "app.kubernetes.io/component=controller"


def components(client: Client) -> list[str]:
    """Whom ``settle`` waits for: each ready pod's nginx does what the Ingresses say then."""
    pods, _ = client.list("Pod", INGRESS.namespace, labels=SELECTOR)
    return [f"ingress/{pod['metadata']['name']}" for pod in pods if _reports(pod)]


def _reports(pod: Obj) -> bool:
    ours = any(find(one["image"]) is INGRESS_NGINX for one in pod["spec"]["containers"])
    return (
        ours
        and pod["spec"].get("serviceAccountName") == INGRESS.account
        and is_ready(pod)
        and not is_deleting(pod)
    )
