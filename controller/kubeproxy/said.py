"""A change of a switch in words, and what it refuses, for logs. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence

from controller.kubeproxy import openflow
from controller.kubeproxy.diff import AddFlow, AddGroup, DeleteFlow, Message, ModifyGroup
from controller.kubeproxy.flow import Desired


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


def about(data: bytes, want: Desired) -> str:
    """The flow or group an error is about; ``data`` is the start of the refused message."""
    if data[1:2] == bytes([openflow.OFPT_BUNDLE_CONTROL]):
        return "the bundle, because of that"
    if data[1:2] == bytes([openflow.OFPT_BUNDLE_ADD_MESSAGE]):
        data = data[16:]  # the message within
    if len(data) >= 24 and data[1] == openflow.OFPT_FLOW_MOD:
        cookie = int.from_bytes(data[8:16], "big")
        flows = (str(flow) for key, flow in want.flows.items() if key.cookie == cookie)
        return next(flows, f"a flow with cookie {cookie:#x} that is no longer wanted")
    if len(data) >= 16 and data[1] == openflow.OFPT_GROUP_MOD:
        number = int.from_bytes(data[12:16], "big")
        return str(want.groups.get(number, f"group {number}, which is no longer wanted"))
    return f"message {data[:16].hex()}"


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
