"""A change of a switch in words, for logs. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence

from controller.kubeproxy.diff import AddFlow, AddGroup, DeleteFlow, Message, ModifyGroup


def said(message: Message) -> str:
    """One line for ``--verbose``."""
    match message:
        case AddFlow(flow):
            return f"add flow {flow}"
        case DeleteFlow(key):
            return f"delete flow table={key.table} priority={key.priority} cookie={key.cookie:#x}"
        case AddGroup(group) | ModifyGroup(group):
            return f"group {group}"
        case _:
            return str(message)


def counts(sent: Sequence[Message]) -> str:
    added = sum(isinstance(m, AddFlow) for m in sent)
    deleted = sum(isinstance(m, DeleteFlow) for m in sent)
    groups = len(sent) - added - deleted
    parts = [f"{many(added, 'flow')} added"] * bool(added)
    parts += [f"{many(deleted, 'flow')} deleted"] * bool(deleted)
    return ", ".join(parts + [f"{many(groups, 'group')} changed"] * bool(groups))


def many(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)


def short(causes: Sequence[str]) -> str:
    more = len(causes) - 3
    return ", ".join(causes[:3]) + (f" and {more} more" if more > 0 else "")
