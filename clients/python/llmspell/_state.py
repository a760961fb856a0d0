"""StateService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llmspell._contract import Call, Page
from llmspell._values import (
    from_payload,
    from_timestamp,
    to_duration,
    to_payload,
)
from llmspell.errors import InvalidArgument, LLMSpellError
from llmspell.types import (
    BatchOperation,
    BatchResult,
    ChangeKind,
    CheckItem,
    DeleteItem,
    IncrementItem,
    Item,
    ResolvedItem,
    SetItem,
    StateChange,
    StateChanges,
)
from llmspell.v1 import state_pb2 as pb


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item is."""

    key: str
    scope: str


_INT64 = range(-(2**63), 2**63)
_KINDS: dict[int, ChangeKind] = {
    pb.STATE_CHANGE_KIND_SET: "set",
    pb.STATE_CHANGE_KIND_DELETE: "delete",
    pb.STATE_CHANGE_KIND_INCREMENT: "increment",
    pb.STATE_CHANGE_KIND_EXPIRE: "expire",
    pb.STATE_CHANGE_KIND_PURGE: "purge",
    pb.STATE_CHANGE_KIND_MIGRATE: "migrate",
}
_WATCH_LOST_S = 30.0
"""Seconds without an answer after which a watch is given up."""
_PAUSE_S, _PAUSE_S_MAX = 0.1, 2.0


def get_state(key: str, scope: str) -> Call[Item]:
    """One item; the service answers ITEM_NOT_FOUND where there is none."""
    request = pb.GetStateRequest(scope=scope, key=key)
    return Call(request, lambda answer: _item(answer.item))


def set_state(
    item: SetItem, *, if_revision: int | None, if_absent: bool, if_present: bool
) -> Call[int]:
    """Write one item; its new revision."""
    request = pb.SetStateRequest(
        scope=item.scope,
        key=item.key,
        value=to_payload(item.value, text=item.text, sensitive=item.sensitive),
        ttl=to_duration(item.ttl_s, "ttl_s"),
        precondition=_precondition(
            {"if_revision": if_revision, "if_absent": if_absent, "if_present": if_present}
        ),
    )
    return Call(request, _revision)


def delete_state(key: str, scope: str, *, if_revision: int | None) -> Call[bool]:
    """Remove one item; whether it was there."""
    precondition = _precondition({"if_revision": if_revision})
    request = pb.DeleteStateRequest(scope=scope, key=key, precondition=precondition)
    return Call(request, lambda answer: answer.deleted_count > 0)


def increment_state(
    key: str, delta: float | Decimal, scope: str, *, if_revision: int | None
) -> Call[Any]:
    """Add to a number; the sum, a Decimal where one was added."""
    precondition = _precondition({"if_revision": if_revision})
    request = pb.IncrementStateRequest(scope=scope, key=key, precondition=precondition)
    _fill_delta(request, delta)
    return Call(request, _sum)


def list_state(prefix: str, scope: str, *, keys_only: bool) -> Call[Page[Item]]:
    """A page of items in order of key."""
    request = pb.ListStateRequest(scope=scope, prefix=prefix, keys_only=keys_only)
    return Call(request, _items)


def batch(
    operations: Iterable[BatchOperation],
) -> Call[BatchResult]:
    """Checks and writes, all or nothing."""
    request = pb.BatchStateRequest()
    for operation in operations:
        if isinstance(operation, CheckItem):
            request.checks.append(_check(operation))
        else:
            request.writes.append(_write(operation))
    return Call(request, _batch_result)


def resolve_state(
    key: str, *, component: str, workflow_id: str, session_id: str
) -> Call[ResolvedItem]:
    """The item of the nearest scope that has one."""
    request = pb.ResolveStateRequest(
        component=component, workflow_id=workflow_id, session_id=session_id, key=key
    )
    return Call(request, lambda answer: ResolvedItem(_item(answer.item), answer.scope))


def copy_state(source: Place, target: Place, *, move: bool, if_absent: bool) -> Call[int]:
    """Copy or move one item; its new revision."""
    request = pb.MoveStateRequest() if move else pb.CopyStateRequest()
    request.source_scope, request.source_key = source.scope, source.key
    request.scope, request.key = target.scope, target.key
    request.precondition.CopyFrom(_precondition({"if_absent": if_absent}) or pb.Precondition())
    return Call(request, _revision)


def copy_state_scope(
    source: str, target: str, *, prefix: str, move: bool, if_absent: bool
) -> Call[int]:
    """Copy or move a scope's items; how many."""
    request = pb.MoveStateScopeRequest() if move else pb.CopyStateScopeRequest()
    request.source_scope, request.scope, request.prefix = source, target, prefix
    request.precondition.CopyFrom(_precondition({"if_absent": if_absent}) or pb.Precondition())
    return Call(request, lambda answer: answer.moved_count if move else answer.copied_count)


def clear_state(prefix: str, scope: str, *, in_parts: bool) -> Call[tuple[int, bool]]:
    """Remove a scope's items; how many, and whether some are left."""
    request = pb.ClearStateRequest(scope=scope, prefix=prefix, in_parts=in_parts)
    return Call(request, lambda answer: (answer.deleted_count, answer.more))


class Watch:
    """Where a watch is, and whether it goes on when its connection has ended."""

    def __init__(self, prefix: str, scope: str | None, *, after: int | None, values: bool) -> None:
        self._request = pb.WatchStateRequest(
            prefix=prefix, scope=scope, after_revision=after, values=values
        )
        self._begun = False
        self._failing_s: float | None = None
        self._pause_s = _PAUSE_S

    def call(self) -> Call[StateChanges | None]:
        """What to send to begin, or to go on."""
        return Call(self._request, _changes)

    def note(self, changes: StateChanges) -> None:
        """Go on from here the next time."""
        self._request.after_revision = changes.revision
        self._begun, self._failing_s, self._pause_s = True, None, _PAUSE_S

    def pause_s(self, error: LLMSpellError, now_s: float) -> float:
        """Seconds to wait before going on.

        Raises:
            LLMSpellError: `error`, where it never began or nothing has answered for long.
        """
        if self._failing_s is None:
            self._failing_s = now_s
        if not self._begun or now_s - self._failing_s > _WATCH_LOST_S:
            raise error
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _PAUSE_S_MAX)
        return pause_s


def _precondition(conditions: dict[str, int | bool | None]) -> pb.Precondition | None:
    """The one condition that was given; `False` and None are not given."""
    given = {name: value for name, value in conditions.items() if value is not None}
    given = {name: value for name, value in given.items() if value is not False}
    if not given:
        return None
    if len(given) > 1:
        raise InvalidArgument(
            f"Give at most one of {', '.join(conditions)}.", metadata={"field": "precondition"}
        )
    ((name, value),) = given.items()
    kind = name.removeprefix("if_")
    return (
        pb.Precondition(revision=int(value))
        if kind == "revision"
        else pb.Precondition(**{kind: True})
    )


def _check(check: CheckItem) -> pb.StateCheck:
    conditions = {"revision": check.revision, "absent": check.absent, "present": check.present}
    precondition = _precondition(conditions)
    if precondition is None:
        raise InvalidArgument(
            f"The check of {check.key!r} must give revision, absent or present.",
            metadata={"field": "precondition"},
        )
    return pb.StateCheck(scope=check.scope, key=check.key, precondition=precondition)


def _fill_delta(message: pb.IncrementStateRequest | pb.StateDelta, delta: float | Decimal) -> None:
    if isinstance(delta, Decimal):
        message.decimal_delta = str(delta)
    elif isinstance(delta, int):
        if delta not in _INT64:
            raise InvalidArgument("delta must fit into 64 bits.", metadata={"field": "delta"})
        message.int_delta = delta
    else:
        message.double_delta = delta


def _write(write: SetItem | DeleteItem | IncrementItem) -> pb.StateWrite:
    if isinstance(write, DeleteItem):
        return pb.StateWrite(scope=write.scope, key=write.key, delete=True)
    if isinstance(write, IncrementItem):
        asked = pb.StateWrite(scope=write.scope, key=write.key)
        _fill_delta(asked.increment, write.by)
        return asked
    return pb.StateWrite(
        scope=write.scope,
        key=write.key,
        set=to_payload(write.value, text=write.text, sensitive=write.sensitive),
        ttl=to_duration(write.ttl_s, "ttl_s"),
    )


def _item(message: pb.Item) -> Item:
    value, encoding = from_payload(message.value)
    return Item(
        key=message.key,
        value=value,
        revision=message.revision,
        encoding=encoding,
        create_time=from_timestamp(message, "create_time"),
        update_time=from_timestamp(message, "update_time"),
        expire_time=from_timestamp(message, "expire_time"),
        sensitive=message.value.sensitive,
    )


def _items(answer: pb.ListStateResponse) -> Page[Item]:
    return Page([_item(item) for item in answer.items], answer.next_page_token)


def _changes(answer: pb.WatchStateResponse) -> StateChanges:
    return StateChanges([_change(change) for change in answer.changes], answer.revision)


def _change(change: pb.StateChange) -> StateChange:
    return StateChange(
        kind=_KINDS[change.kind],
        scope=change.scope,
        key=change.key,
        revision=change.revision,
        item=_item(change.item) if change.HasField("item") else None,
    )


def _revision(answer: Any) -> int:
    return int(answer.revision)


def _sum(answer: pb.IncrementStateResponse | pb.StateSum) -> int | float | Decimal:
    if answer.WhichOneof("value") == "decimal_value":
        return Decimal(answer.decimal_value)
    if answer.WhichOneof("value") == "double_value":
        return answer.double_value
    return answer.int_value


def _batch_result(answer: pb.BatchStateResponse) -> BatchResult:
    return BatchResult(
        revision=answer.revision,
        deleted_count=answer.deleted_count,
        sums=tuple(map(_sum, answer.sums)),
    )
