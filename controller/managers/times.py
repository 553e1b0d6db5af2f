"""Kubernetes' timestamps: RFC 3339 in UTC, whole seconds. Pure; nobody asks a clock here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def after(text: str | None, seconds: float) -> datetime | None:
    """The moment that lies ``seconds`` after a timestamp."""
    return parse(text) + timedelta(seconds=seconds) if text else None
