"""The client of the API: synchronous, safe from any thread, nothing but the standard library.

Objects are plain dicts (``objects``), kinds are named by their word ("Service"). Following kinds over
time is the ``Informer``'s business (``informer``, exported here too).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.api.errors import AlreadyExists, Conflict, NotFound, NotSettled, Timeout, Unreachable
from controller.api.informer import Batch, Event, Informer
from controller.api.objects import Obj, kind_named, kind_of
from controller.api.patch import SHORT
from controller.api.transport import Stream, Transport

__all__ = ["Batch", "Client", "Event", "Informer"]

_EVENT_TRIES = 5
"""Against other processes that record the same Event at once; in one process the client takes turns."""


class Client:
    """Verbs on the API. ``namespace`` defaults to "default" for a namespaced kind where one object is
    meant, and to all namespaces for a list."""

    def __init__(self, socket: str | Path, user_agent: str = "podwire") -> None:
        self._transport = Transport(socket, user_agent)
        self._recording = threading.Lock()

    # -- reading

    def get(self, kind: str, name: str, namespace: str | None = None) -> Obj:
        return self._transport.request("GET", kind_named(kind).path(namespace or "default", name))

    def list(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Obj], str]:
        """The objects, with apiVersion and kind in each, and the list's resourceVersion."""
        row = kind_named(kind)
        body = self._transport.request("GET", row.path(namespace), query=_selectors(labels, fields))
        items = body.get("items") or []
        for item in items:
            item.setdefault("kind", row.kind)
            item.setdefault("apiVersion", row.api_version)
        return items, body["metadata"]["resourceVersion"]

    def watch(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        bookmarks: bool = False,
        **more: str,
    ) -> Stream:
        """The events after a resourceVersion (none: from what there is), as they come on the wire."""
        query = {"watch": "true", **_selectors(labels, fields), **more}
        if resource_version:
            query["resourceVersion"] = resource_version
        if bookmarks:
            query["allowWatchBookmarks"] = "true"
        return self._transport.stream(kind_named(kind).path(namespace), query)

    # -- writing

    def create(self, obj: Obj) -> Obj:
        namespace = obj["metadata"].get("namespace") or "default"
        return self._transport.request("POST", kind_of(obj).path(namespace), body=obj)

    def update(self, obj: Obj, subresource: str = "") -> Obj:
        """Replace an object or its ``status``; Conflict when its resourceVersion is stale."""
        metadata = obj["metadata"]
        path = kind_of(obj).path(metadata.get("namespace") or "default", metadata["name"], subresource)
        return self._transport.request("PUT", path, body=obj)

    def patch(
        self,
        kind: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        subresource: str = "",
        patch_type: str = "merge",
    ) -> Obj:
        path = kind_named(kind).path(namespace or "default", name, subresource)
        return self._transport.request("PATCH", path, body=patch, content_type=SHORT[patch_type])

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace: int | None = None,
        propagation: str = "Background",
        uid: str = "",
    ) -> Obj:
        """Delete an object; answers the object (Pod, Service) or a Status. It may live on, marked, for
        its grace period or until its finalizers are gone. ``uid``: only if it is still that object,
        Conflict when another one has taken its name."""
        options: Obj = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid:
            options["preconditions"] = {"uid": uid}
        path = kind_named(kind).path(namespace or "default", name)
        return self._transport.request("DELETE", path, body=options)

    def apply(self, obj: Obj) -> Obj:
        """Create the object, or merge it over the one that is there."""
        metadata = obj["metadata"]
        patch = {word: value for word, value in obj.items() if word != "status"}
        patch["metadata"] = {word: value for word, value in metadata.items() if word != "resourceVersion"}
        for _ in range(3):
            try:
                return self.patch(obj["kind"], metadata["name"], patch, metadata.get("namespace"))
            except NotFound:
                pass
            try:
                return self.create({**patch})
            except AlreadyExists:
                pass
        return self.create(patch)

    def event(
        self, involved: Obj, reason: str, message: str, *, type: str = "Normal", component: str
    ) -> None:
        """Record an Event on an object; the same one again counts up instead of piling up.

        ``involved`` may lie in any namespace; a cluster-scoped object's events lie in "default".
        """
        about = involved["metadata"]
        namespace = about.get("namespace") or "default"
        digest = hashlib.sha256(
            "\0".join((about.get("uid") or about["name"], type, reason, message, component)).encode()
        ).hexdigest()[:16]
        name = f"{about['name'][:200]}.{digest}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made = _event(involved, name, namespace, now)
        made |= {"reason": reason, "message": message, "type": type, "source": {"component": component},
                 "reportingComponent": component}  # fmt: skip
        with self._recording:
            for _ in range(_EVENT_TRIES):
                try:
                    self._record(made)
                except (AlreadyExists, Conflict):
                    continue
                return

    def _record(self, event: Obj) -> None:
        metadata = event["metadata"]
        try:
            seen = self.get("Event", metadata["name"], metadata["namespace"])
        except NotFound:
            self.create(event)
            return
        patch = {
            "metadata": {"resourceVersion": seen["metadata"]["resourceVersion"]},
            "count": int(seen.get("count") or 1) + 1,
            "lastTimestamp": event["lastTimestamp"],
        }
        self.patch("Event", metadata["name"], patch, metadata["namespace"])

    # -- the side channel

    def progress(self, component: str, resource_version: int) -> bool:
        """Say that a component has wholly handled everything up to a resourceVersion; whether it was heard.

        A server that is down hears nothing and that is no error: it forgets all progress anyway, and
        an informer delivers a batch when it is back.
        """
        report = {"component": component, "resourceVersion": resource_version}
        try:
            self._transport.request("POST", "/podwire/v1/progress", body=report, repeatable=True)
        except Unreachable:
            return False
        return True

    def credentials(self, pods: Sequence[tuple[str, str]]) -> Sequence[Mapping[str, str]]:
        """For each (namespace, name) what the pod's service account gives it, by file name: token, ca.crt
        and namespace; nothing for a pod that wants none."""
        body = {"pods": [list(pod) for pod in pods]}
        answer = self._transport.request("POST", "/podwire/v1/credentials", body=body, repeatable=True)
        found: Sequence[Mapping[str, str]] = answer["pods"]
        return found

    def settle(self, components: Sequence[str], timeout: float = 30) -> int:
        """Wait until every component has handled the newest resourceVersion and return it; NotSettled
        names who has not."""
        query = {"components": ",".join(components), "timeoutSeconds": str(timeout)}
        try:
            answer = self._transport.request("GET", "/podwire/v1/settle", query=query, timeout=timeout + 10)
        except Timeout as error:
            raise NotSettled(str(error)) from None
        return int(answer["resourceVersion"])


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {word: text for word, text in (("labelSelector", labels), ("fieldSelector", fields)) if text}


def _event(involved: Obj, name: str, namespace: str, now: str) -> Obj:
    about = involved["metadata"]
    reference = {"apiVersion": involved["apiVersion"], "kind": involved["kind"], "name": about["name"],
                 "namespace": about.get("namespace"), "uid": about.get("uid"),
                 "resourceVersion": about.get("resourceVersion")}  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {word: value for word, value in reference.items() if value},
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "eventTime": None,
        "reportingInstance": "",
    }
