"""Generated names and hashes, stable ones: the same objects get the same names on every run.

Kubernetes draws five random characters; here they are a hash of what the name is for and a number
that is counted up until the name is free. The alphabet is Kubernetes' own (no vowels, so no words).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST = 63


def suffix(*parts: object, length: int = 5) -> str:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()
    number = int.from_bytes(digest, "big")
    text = ""
    for _ in range(length):
        number, at = divmod(number, len(_ALPHABET))
        text += _ALPHABET[at]
    return text


def generate(prefix: str, *seed: object, taken: Callable[[str], bool], start: int = 0) -> tuple[str, int]:
    """``prefix`` and five characters, the first free name from ordinal ``start`` on, and its ordinal."""
    prefix = prefix[: _LONGEST - 5]
    ordinal = start
    while taken(name := prefix + suffix(*seed, ordinal)):
        ordinal += 1
    return name, ordinal


def template_hash(template: Any, collisions: int | None) -> str:
    """The pod-template-hash: ten characters, another one for each collision counted so far."""
    return suffix(json.dumps(template, sort_keys=True, separators=(",", ":")), collisions or 0, length=10)
