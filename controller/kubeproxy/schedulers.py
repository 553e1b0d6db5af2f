"""The schedulers of IPVS: who gets the next connection.

Chosen for a Service by the annotation ``podwire.dev/scheduler``; a Pod's ``podwire.dev/weight`` says how much
it takes. Where a hash is enough (sh, mh, dh) the switch's group decides; the others need to remember, so
the first packet of each connection comes to the kubeproxy, which asks ``schedule``.

Pure: nothing here knows a switch or a packet. kube-proxy's ipvs mode, where one scheduler served all
Services, is deprecated since Kubernetes 1.35; each node schedules by itself, there as here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from math import gcd
from typing import NamedTuple

MOST_WEIGHT = 100
"""A weight is a number of buckets in a hashing group, so it has an end; IPVS's is 65,535."""


class Destination(NamedTuple):
    """What a scheduler knows of an endpoint: its weight (0: no new connections), open connections."""

    weight: int = 1
    active: int = 0


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """One way to choose. Exactly one of ``fields``, ``cost`` and ``in_turn`` makes the choice.

    ``fields``: what the switch hashes. ``cost``: the least one is chosen, the first of equals.
    ``in_turn``: by the order of ``cycle``.
    """

    name: str
    meaning: str
    weighs: bool = False
    fields: tuple[str, ...] = ()
    in_turn: bool = False
    cost: Callable[[Destination], tuple[float, ...]] | None = None

    @property
    def reactive(self) -> bool:
        """Whether the kubeproxy itself is asked for each connection."""
        return not self.fields

    @property
    def counts(self) -> bool:
        """Whether it must know how many connections are open."""
        return self.cost is not None


def _shortest_delay(one: Destination) -> float:
    return (one.active + 1) / one.weight


SCHEDULERS = {
    scheduler.name: scheduler
    for scheduler in (
        Scheduler(name="rr", meaning="round robin: one after the other", in_turn=True),
        Scheduler(
            name="wrr",
            meaning="weighted round robin: in turn, the heavier more often",
            in_turn=True,
            weighs=True,
        ),
        Scheduler(
            name="lc", meaning="least connection: whoever has the fewest open", cost=lambda d: (d.active,)
        ),
        Scheduler(
            name="wlc",
            meaning="weighted least connection: the fewest open for its weight",
            weighs=True,
            cost=lambda d: (d.active / d.weight,),
        ),
        Scheduler(
            name="sed",
            meaning="shortest expected delay: the fewest for its weight, the new one counted in",
            weighs=True,
            cost=lambda d: (_shortest_delay(d),),
        ),
        Scheduler(
            name="nq",
            meaning="never queue: somebody idle, else the shortest expected delay",
            weighs=True,
            cost=lambda d: (0.0, 0.0) if d.active == 0 else (1.0, _shortest_delay(d)),
        ),
        Scheduler(
            name="sh", meaning="source hashing: a client's address decides", fields=("source",), weighs=True
        ),
        Scheduler(
            name="mh",
            meaning="Maglev hashing: a client's address and port decide",
            fields=("source", "source port"),
            weighs=True,
        ),
        Scheduler(
            name="dh",
            meaning="destination hashing: the address that is asked decides",
            fields=("destination",),
        ),
    )
}
"""By IPVS's names."""


def schedule(scheduler: Scheduler, destinations: Sequence[Destination], turn: int) -> int | None:
    """The place of who gets the next connection; None when nobody takes any.

    ``turn``: how many connections were given before, of which only those "in turn" want to know.
    """
    takes = [d if scheduler.weighs else d._replace(weight=min(1, d.weight)) for d in destinations]
    willing = [place for place, one in enumerate(takes) if one.weight]
    if not willing:
        return None
    if scheduler.cost is None:
        order = cycle(tuple(one.weight for one in takes))
        return order[turn % len(order)]
    cost = scheduler.cost
    return min(willing, key=lambda place: cost(takes[place]))


@cache
def cycle(weights: tuple[int, ...]) -> tuple[int, ...]:
    """One round of weighted round robin as IPVS walks it: 4:3:2 of A, B, C gives A A B A B C A B C.

    The bar falls from the greatest weight by the weights' common divisor; who reaches it has a turn.
    """
    step = reduce(gcd, weights)
    bars = range(max(weights), 0, -step) if step else ()
    return tuple(place for bar in bars for place, weight in enumerate(weights) if weight >= bar)


def read_scheduler(text: str | None) -> tuple[Scheduler | None, str]:
    """(the scheduler an annotation names, None for the default; what is wrong with it, a sentence)."""
    if not text:
        return None, ""
    if text in SCHEDULERS:
        return SCHEDULERS[text], ""
    known = ", ".join(SCHEDULERS)
    return None, f'there is no scheduler "{text}"; the default is used. There are {known}'


def read_weight(text: str | None) -> tuple[int, str]:
    """(the weight an annotation names, 1 by default; what is wrong with it, a sentence)."""
    if text is None:
        return 1, ""
    if text.isascii() and text.isdigit() and int(text) <= MOST_WEIGHT:
        return int(text), ""
    numbers = f"whole numbers from 0 (no new connections) to {MOST_WEIGHT} are"
    return 1, f'"{text}" is no weight, {numbers}; 1 is used'
