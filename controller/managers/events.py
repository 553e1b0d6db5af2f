"""Records -> Event objects, correlated as client-go does: a flood of likes becomes one that counts.

The same event again raises its count. From the eleventh similar one (same object, reason and
source, another text) on they are combined; one source may write 25 about one object in a burst and
one each five minutes after that. Keeps these counts only; the Events themselves are in the View.
"""

from __future__ import annotations

from datetime import datetime

from controller.api import objects
from controller.api.objects import Obj
from controller.managers import names
from controller.managers.times import stamp
from controller.managers.view import Create, Record, Update, View

SIMILAR = 10
BURST = 25
REFILL_SECONDS = 300.0
_COMBINED = "(combined from similar events): "


class Correlator:
    def __init__(self) -> None:
        self._texts: dict[str, dict[tuple[str, str], set[str]]] = {}
        self._tokens: dict[str, dict[str, tuple[float, datetime]]] = {}

    def write(self, view: View, record: Record) -> Create | Update | None:
        """The write that tells ``record``; None when its source has said enough."""
        uid = objects.uid(record.involved)
        if not self._allowed(record.component, uid, view.now):
            return None
        texts = self._texts.setdefault(uid, {}).setdefault((record.component, record.reason), set())
        combined = len(texts) >= SIMILAR and record.message not in texts
        if not combined:
            texts.add(record.message)
        message = _COMBINED + record.message if combined else record.message
        seed = _COMBINED if combined else record.message
        namespace = objects.namespace(record.involved) or "default"
        ending = names.suffix(uid, record.component, record.type, record.reason, seed, length=12)
        name = f"{objects.name(record.involved)}.{ending}"
        now = stamp(view.now)
        old = view.get("Event", namespace, name)
        if old is not None:
            return Update({**old, "message": message, "count": old.get("count", 1) + 1, "lastTimestamp": now})
        return Create(_event(record, namespace, name, message, now))

    def forget(self, uid: str) -> None:
        """The object is gone: nothing more will be said about it."""
        self._texts.pop(uid, None)
        self._tokens.pop(uid, None)

    def _allowed(self, component: str, uid: str, now: datetime) -> bool:
        sources = self._tokens.setdefault(uid, {})
        tokens, since = sources.get(component, (float(BURST), now))
        tokens = min(tokens + (now - since).total_seconds() / REFILL_SECONDS, float(BURST))
        allowed = tokens >= 1
        sources[component] = (tokens - 1 if allowed else tokens, now)
        return allowed


def _event(record: Record, namespace: str, name: str, message: str, now: str) -> Obj:
    involved = record.involved
    reference = {
        "apiVersion": involved["apiVersion"],
        "kind": involved["kind"],
        "name": objects.name(involved),
        "uid": objects.uid(involved),
        "resourceVersion": involved["metadata"].get("resourceVersion", ""),
    }
    if objects.namespace(involved):
        reference["namespace"] = objects.namespace(involved)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": reference,
        "reason": record.reason,
        "message": message,
        "source": {"component": record.component},
        "reportingComponent": record.component,
        "reportingInstance": "",
        "type": record.type,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "eventTime": None,
    }
