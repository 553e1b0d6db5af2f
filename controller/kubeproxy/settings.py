"""How patient the kubeproxy is with a switch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All in seconds, but ``attempts``."""

    read_every: float = 3.0
    answer_within: float = 10.0
    answer_each: float = 0.001
    """More for each message of a change: 130,000 take a slow machine some while."""
    hold_deletes: float = 10.0
    """After a connect, how long what seems left over stays while the proxier still waits for something."""
    flush_again: float = 0.5
    """After connections were forgotten, when the same are forgotten once more."""
    retry_after: tuple[float, ...] = (0.05, 0.2, 1.0, 3.0)
    """Pauses between attempts after the switch refused something; when they are used up the process ends."""


DEFAULTS = Settings()
