"""Who has handled how much: the side channel by which a lab knows that it has come to rest.

Reports change no resourceVersion and are not durable: after a restart every component reports anew
(an informer delivers a batch whenever it reconnects). Pure bookkeeping, one thread (the server's).
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.api.errors import Timeout
from controller.api.status import status_of


class Progress:
    """The newest resourceVersion each component has wholly handled."""

    def __init__(self) -> None:
        self.handled: dict[str, int] = {}

    def report(self, component: str, version: int) -> None:
        """A component never goes back."""
        self.handled[component] = max(version, self.handled.get(component, 0))

    def laggards(self, components: Sequence[str], newest: int) -> dict[str, int | None]:
        """The components that stand before ``newest``; None for one that has never reported."""
        return {name: self.handled.get(name) for name in components if self.handled.get(name, -1) < newest}


def not_settled(laggards: dict[str, int | None], newest: int) -> Timeout:
    """504 that names who is behind and by how much."""
    told = [
        f"{name} has not reported" if at is None else f"{name} is {newest - at} behind (at {at})"
        for name, at in sorted(laggards.items())
    ]
    message = f"not settled at resourceVersion {newest}: " + ", ".join(told)
    causes = [
        {"reason": "Behind", "field": name, "message": str(at)} for name, at in sorted(laggards.items())
    ]
    return Timeout(message, status_of(504, "Timeout", message, {"causes": causes}))
