"""Who wants which flow: shares of one object each, their union, and what changed in it.

The union has one flow in each place of a switch (table, priority, match). When two objects claim a
place (two pods that say they have one address), the smaller cause has it, whoever came first: so the
union depends on the shares alone, never on history.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from controller.kubeproxy.flow import Changes, Desired, Flow, FlowKey, Group

Place = tuple[int, int, bytes]


class Ledger:
    """The union of all shares, kept while shares change."""

    def __init__(self) -> None:
        self._shares: dict[Hashable, tuple[Sequence[Flow], Sequence[Group]]] = {}
        self._places: dict[Place, Flow] = {}
        self._rivals: dict[Place, list[Flow]] = {}
        self._flows: dict[FlowKey, Flow] = {}
        self._groups: dict[int, Group] = {}
        self._group_owner: dict[int, Hashable] = {}
        self._changes = Changes()
        self.desired = Desired(self._flows, self._groups)

    def share(self, owner: Hashable, flows: Iterable[Flow] = (), groups: Iterable[Group] = ()) -> None:
        """``owner`` now wants exactly these."""
        old_flows, old_groups = self._shares.pop(owner, ((), ()))
        new_flows, new_groups = tuple(flows), tuple(groups)
        if new_flows or new_groups:
            self._shares[owner] = (new_flows, new_groups)
        kept = {flow.key for flow in old_flows} & {flow.key for flow in new_flows} if old_flows else set()
        for flow in old_flows:
            if flow.key not in kept:
                self._withdraw(flow)
        for flow in new_flows:
            if flow.key not in kept:
                self._claim(flow)
        for group in new_groups:
            self._group_owner[group.group_id] = owner
            self._set_group(group)
        held = {group.group_id for group in new_groups}
        for group in old_groups:
            # By then another owner may hold the id: then it is not ours to take away.
            if group.group_id not in held and self._group_owner[group.group_id] == owner:
                del self._group_owner[group.group_id]
                self._drop_group(group.group_id)

    def clear(self) -> None:
        """Nobody wants anything."""
        for owner in list(self._shares):
            self.share(owner)

    def take(self) -> Changes:
        """What changed since the last ``take``."""
        changes, self._changes = self._changes, Changes()
        return changes

    def _claim(self, flow: Flow) -> None:
        place = flow.place
        holder = self._places.get(place)
        if holder is None:
            self._places[place] = flow
            self._add(flow)
            return
        self._rivals.setdefault(place, [holder]).append(flow)
        self._decide(place)

    def _withdraw(self, flow: Flow) -> None:
        place = flow.place
        rivals = self._rivals.get(place)
        if rivals is None:
            del self._places[place]
            self._remove(flow)
            return
        rivals.remove(flow)
        self._decide(place)
        if len(rivals) == 1:
            del self._rivals[place]

    def _decide(self, place: Place) -> None:
        holder, winner = self._places[place], min(self._rivals[place], key=lambda f: (f.cause, str(f)))
        if winner.key != holder.key:
            self._places[place] = winner
            self._remove(holder)
            self._add(winner)

    def _add(self, flow: Flow) -> None:
        self._flows[flow.key] = flow
        self._changes.flows_gone.discard(flow.key)
        self._changes.flows[flow.key] = flow

    def _remove(self, flow: Flow) -> None:
        del self._flows[flow.key]
        self._changes.flows.pop(flow.key, None)
        self._changes.flows_gone.add(flow.key)

    def _set_group(self, group: Group) -> None:
        if self._groups.get(group.group_id) != group:
            self._groups[group.group_id] = group
            self._changes.groups_gone.discard(group.group_id)
            self._changes.groups[group.group_id] = group

    def _drop_group(self, group_id: int) -> None:
        del self._groups[group_id]
        self._changes.groups.pop(group_id, None)
        self._changes.groups_gone.add(group_id)
