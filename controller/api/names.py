"""Names Kubernetes makes up: ``generateName``. What a valid name is stands in ``rules_metadata``."""

from __future__ import annotations

import random

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' letters for made-up names: no vowels, so no words."""
_LENGTH = 5
_PREFIX = 63 - _LENGTH


def generate(prefix: str, rng: random.Random) -> str:
    """The prefix and five random letters, as ``metadata.generateName`` asks."""
    return prefix[:_PREFIX] + "".join(rng.choices(_ALPHABET, k=_LENGTH))
