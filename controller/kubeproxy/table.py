"""A table of the pipeline as a value; ``pipeline`` declares them all."""

from __future__ import annotations

from dataclasses import dataclass

from controller.kubeproxy.fields import Field


class PipelineError(AssertionError):
    """A flow that the pipeline's declaration does not allow: a bug of ours, never the user's."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """A step of the pipeline: what its flows may match, and where they may send a packet next."""

    name: str
    stage: str
    why: str
    matches: frozenset[Field]
    next: frozenset[str] = frozenset()
    again: bool = False
    """Whether its flows may lead back to it; what ends that is in the flows, and said there."""
    id: int = -1

    def __repr__(self) -> str:
        return self.name
