"""Whether an object may be written: published schemas, then Kubernetes' own rules."""

from __future__ import annotations

from controller.api.objects import Obj


def check_create(obj: Obj) -> None:
    """Raise Invalid with everything that is wrong with a new object."""


def check_update(obj: Obj, old: Obj, subresource: str = "") -> None:
    """Raise Invalid with everything that is wrong with a changed object."""
