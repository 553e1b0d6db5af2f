"""What a case is: a function on a Kit, entered under its upstream name. Runs nothing by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar


@dataclass(frozen=True, kw_only=True)
class Case:
    """``args`` are the parts of a name that upstream generates ("http", "udp"). ``note`` is the meaning on
    Open vSwitch of a case that upstream wrote for iptables or for one cloud: its function's docstring."""

    group: str
    name: str
    function: Callable[..., None]
    args: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False
    """Takes minutes: tried only when asked for (``--slow``, or by its name)."""

    @property
    def note(self) -> str:
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def key(self) -> tuple[str, str]:
        return self.group, self.name


Function = TypeVar("Function", bound=Callable[..., None])

CASES: dict[tuple[str, str], Case] = {}


class NotThere(Exception):
    """The case needs something that the lab does not have yet: counts as not passed, ``str`` says what."""


def case(group: str, name: str, *, slow: bool = False, **args: Any) -> Callable[[Function], Function]:
    """Enter a function as the case of this name; once only. Stacked for the cases of one generated row."""

    def enter(function: Function) -> Function:
        made = Case(group=group, name=name, function=function, args=args, slow=slow)
        assert made.key not in CASES, f"two functions for {made.key}"
        CASES[made.key] = made
        return function

    return enter
