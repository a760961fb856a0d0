"""Between StateService's messages and the engine's values; each is translated once."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec
from blake3 import blake3
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmspell.v1 import state_pb2

from services.common.errors import field_invalid, required
from services.common.scope_guard import may_see, may_see_now, sees_all_scopes
from services.common.scopes import parse_scope
from services.state import numbers, rules
from services.state.layout.items import ChangeKind
from services.state.model import (
    Address,
    Changed,
    Check,
    Condition,
    Counted,
    Encoding,
    Item,
    Once,
    Precondition,
    Value,
    Write,
)
from services.state.numbers import Number
from services.state.watch import Advance, Seen, Selection

_SECOND_NS = 10**9
_NANOS_MAX = 999_999_999
_CHANGE_KINDS = {
    ChangeKind.SET: state_pb2.STATE_CHANGE_KIND_SET,
    ChangeKind.DELETE: state_pb2.STATE_CHANGE_KIND_DELETE,
    ChangeKind.INCREMENT: state_pb2.STATE_CHANGE_KIND_INCREMENT,
    ChangeKind.EXPIRE: state_pb2.STATE_CHANGE_KIND_EXPIRE,
    ChangeKind.PURGE: state_pb2.STATE_CHANGE_KIND_PURGE,
    ChangeKind.MIGRATED: state_pb2.STATE_CHANGE_KIND_MIGRATE,
}


def read_scope(text: str) -> str:
    """A scope as it is printed.

    Raises:
        ServiceError: SCOPE_INVALID.
    """
    return str(parse_scope(text))


def read_value(payload: state_pb2.Payload, field: str = "value") -> Value:
    """What is to be kept, byte for byte; JSON is read once to know that it is JSON.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    kind = payload.WhichOneof("encoding")
    if kind == "json":
        content = payload.json.encode()
        rules.check_value(Value(Encoding.JSON, content), field)  # before time is spent on it
        _check_json(content, field)
        return Value(Encoding.JSON, content, payload.sensitive)
    if kind == "text":
        return Value(Encoding.TEXT, payload.text.encode(), payload.sensitive)
    if kind == "raw":
        return Value(Encoding.RAW, payload.raw, payload.sensitive)
    raise required(field)


def read_ttl(message: Any, field: str = "ttl") -> int | None:
    """Nanoseconds of a message's `ttl`; None where it has none.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if not message.HasField("ttl"):
        return None
    ttl_ns = read_duration(message.ttl, field)
    rules.check_ttl(ttl_ns, field)
    return ttl_ns


def read_duration(duration: Duration, field: str) -> int:
    """Nanoseconds of a duration.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if abs(nanos) > _NANOS_MAX or seconds * nanos < 0:
        raise field_invalid(field, "must be a valid duration")
    return int(seconds * _SECOND_NS + nanos)


def write_moment(time_ns: int) -> Timestamp:
    """A moment as it travels."""
    seconds, nanos = divmod(time_ns, _SECOND_NS)
    return Timestamp(seconds=seconds, nanos=nanos)


def read_precondition(message: Any, field: str = "precondition") -> Precondition | None:
    """A message's `precondition`; None where nothing is asked.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    precondition = message.precondition
    kind = precondition.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "revision":
        return Precondition(Condition.REVISION, precondition.revision)
    if not getattr(precondition, kind):
        raise field_invalid(f"{field}.{kind}", "must be true where it is set")
    return Precondition(Condition.ABSENT if kind == "absent" else Condition.PRESENT)


def read_check(check: state_pb2.StateCheck, number: int) -> Check:
    """A condition of a batch.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, SCOPE_INVALID.
    """
    field = f"checks[{number}].precondition"
    precondition = read_precondition(check, field)
    if precondition is None:
        raise required(field)
    return Check(read_scope(check.scope), check.key, precondition)


def read_write(write: state_pb2.StateWrite, number: int) -> Write:
    """A change of a batch.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, SCOPE_INVALID, LIMIT_EXCEEDED.
    """
    field = f"writes[{number}]"
    scope = read_scope(write.scope)
    ttl_ns = read_ttl(write, f"{field}.ttl")
    kind = write.WhichOneof("write")
    if kind == "set":
        return Write(scope, write.key, read_value(write.set, f"{field}.set"), ttl_ns)
    if kind is None:
        raise required(f"{field}.write")
    if ttl_ns is not None:
        raise field_invalid(f"{field}.ttl", "goes with set only")
    if kind == "increment":
        delta = read_delta(write.increment, f"{field}.increment.")
        return Write(scope, write.key, None, delta=delta)
    if not write.delete:
        raise field_invalid(f"{field}.delete", "must be true where it is set")
    return Write(scope, write.key, None)


def read_once(request: Any) -> Once | None:
    """What a write is known by when it is repeated; None where it has no request id."""
    if not request.request_id:
        return None
    asked = type(request).__name__.encode() + b"\0" + request.SerializeToString(deterministic=True)
    return Once(request.request_id, blake3(asked).digest())


def read_source(request: Any) -> Address:
    """Which item is to be copied or moved.

    Raises:
        ServiceError: SCOPE_INVALID.
    """
    return Address(read_scope(request.source_scope), request.source_key)


def read_target(request: Any) -> Address:
    """Where it is to go.

    Raises:
        ServiceError: SCOPE_INVALID.
    """
    return Address(read_scope(request.scope), request.key)


def read_hierarchy(request: state_pb2.ResolveStateRequest) -> list[str]:
    """Scopes in which an item is looked for, the nearest first.

    Raises:
        ServiceError: SCOPE_INVALID.
    """
    named = [request.component] if request.component else []
    named += [f"workflow:{request.workflow_id}"] if request.workflow_id else []
    named += [f"session:{request.session_id}"] if request.session_id else []
    return [scope for scope in (*map(read_scope, named), "global") if may_see(scope)]


def read_delta(
    asked: state_pb2.IncrementStateRequest | state_pb2.StateDelta, field: str = ""
) -> Number:
    """What to add; `field`: what the names of its fields follow.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    kind = asked.WhichOneof("delta")
    if kind is None:
        raise required(f"{field}delta")
    if kind == "int_delta":
        return int(asked.int_delta)
    if kind == "decimal_delta":
        return numbers.read_decimal(asked.decimal_delta, f"{field}{kind}")
    if not math.isfinite(asked.double_delta):
        raise field_invalid(f"{field}double_delta", "must be finite")
    return float(asked.double_delta)


def read_selection(request: state_pb2.WatchStateRequest) -> Selection:
    """Which changes are asked for.

    Raises:
        ServiceError: SCOPE_INVALID.
    """
    scope = read_scope(request.scope) if request.HasField("scope") else None
    may_see = None if sees_all_scopes() else may_see_now()
    return Selection(scope=scope, prefix=request.prefix, values=request.values, may_see=may_see)


def write_advance(advance: Advance) -> state_pb2.WatchStateResponse:
    """How far a watch has come, as it travels."""
    return state_pb2.WatchStateResponse(
        changes=map(_write_change, advance.changes), revision=advance.revision
    )


def write_counted(counted: Counted) -> state_pb2.IncrementStateResponse:
    """An item's number after an increment, as it travels."""
    answer = state_pb2.IncrementStateResponse(revision=counted.revision)
    _fill_number(answer, counted.number)
    return answer


def write_batch(changed: Changed) -> state_pb2.BatchStateResponse:
    """What a batch did, as it travels."""
    answer = state_pb2.BatchStateResponse(
        revision=changed.revision, deleted_count=changed.deleted_count
    )
    for number in changed.sums:
        _fill_number(answer.sums.add(), number)
    return answer


def write_item(item: Item) -> state_pb2.Item:
    """An item as it travels."""
    message = state_pb2.Item(key=item.key, revision=item.revision)
    if item.value is not None:
        message.value.CopyFrom(_write_value(item.value))
    message.create_time.FromNanoseconds(item.create_time_ns)
    message.update_time.FromNanoseconds(item.update_time_ns)
    if item.expire_time_ns is not None:
        message.expire_time.FromNanoseconds(item.expire_time_ns)
    return message


def _fill_number(
    message: state_pb2.IncrementStateResponse | state_pb2.StateSum, number: Number
) -> None:
    if isinstance(number, Decimal):
        message.decimal_value = numbers.write_decimal(number)
    elif isinstance(number, int):
        message.int_value = number
    else:
        message.double_value = number


def _write_change(seen: Seen) -> state_pb2.StateChange:
    change = seen.change
    return state_pb2.StateChange(
        kind=_CHANGE_KINDS[change.kind],
        scope=change.scope,
        key=change.key,
        revision=change.revision,
        item=None if seen.item is None else write_item(seen.item),
    )


def _write_value(value: Value) -> state_pb2.Payload:
    told = state_pb2.Payload(sensitive=value.is_sensitive)
    if value.encoding is Encoding.JSON:
        told.json = value.content.decode()
    elif value.encoding is Encoding.TEXT:
        told.text = value.content.decode()
    else:
        told.raw = value.content
    return told


def _check_json(content: bytes, field: str) -> None:
    try:
        msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise field_invalid(field, f"must be JSON: {_why(error)}") from None
    except RecursionError:
        raise field_invalid(field, "must not be nested so deeply") from None


def _why(error: msgspec.DecodeError) -> str:
    return str(error).removeprefix("JSON is malformed: ").rstrip(".")
