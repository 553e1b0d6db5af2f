"""Is a spread even? Pearson's chi-square test against equal shares. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Evenness(NamedTuple):
    """``p`` is the chance that a fair choice spreads at least this unevenly."""

    chi_square: float
    freedom: int
    p: float


def evenness(counts: Sequence[int]) -> Evenness:
    """Test the counts of answers, one for each endpoint (zeros included: a starved endpoint is the point)."""
    if not counts or not sum(counts):
        raise ValueError("nothing was counted")
    expected = sum(counts) / len(counts)
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    return Evenness(chi_square, len(counts) - 1, survival(chi_square, len(counts) - 1))


def survival(chi_square: float, freedom: int) -> float:
    """P(X ≥ chi_square) for a chi-square distributed X.

    It is the regularized incomplete gamma function Q(freedom/2, chi_square/2), which for whole and
    half numbers is a finite sum: Q(a+1, x) = Q(a, x) + x^a·e^-x / Γ(a+1), from Q(1, x) = e^-x or
    Q(1/2, x) = erfc(√x).
    """
    if chi_square <= 0 or freedom == 0:
        return 1.0
    x = chi_square / 2
    a, total = (1.0, math.exp(-x)) if freedom % 2 == 0 else (0.5, math.erfc(math.sqrt(x)))
    while a < freedom / 2:
        total += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(1.0, total)
