"""Looks at the scopes that a message names, where a caller's policies limit them.

One place for all methods of all processes, by the contract's descriptors: whoever adds an RPC with
a scope in it has nothing to remember. What a caller may not see is answered as what is not there: a
call that only reads is made for a tenant that has nothing. What would change something is refused.
What names no scope and is about several of them either leaves out what the caller may not see, or
is refused; `SPANNING` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from services.common.access import METHODS, Method
from services.common.context import CallContext, current_context
from services.common.errors import ServiceError
from services.common.policy import (
    Rules,
    check_dimension,
    first_rule,
    limits_scopes,
    refusal,
    sees,
    sees_every,
)
from services.common.scopes import NOBODY_TENANT, parse_scope

ALL_SCOPES = "*"

_SCOPES = frozenset({"scope", "source_scope", "component", "subject"})
_NAMED = {"session_id": "session", "parent": "session", "workflow_id": "workflow"}
_DEPTH_MAX = 3
_EMPTY_IS_ALL = frozenset({"VectorAdminService/CheckpointIndex", "VectorService/GetVectorStats"})
_ONLY_READS = MethodOptions.NO_SIDE_EFFECTS
_RUNTIME = frozenset(
    {"Agent", "Execution", "Run", "Script", "Template", "Tool", "Usage", "Workflow"}
)

SPANNING = {
    "filtered": frozenset(
        {
            "EventService/ListEvents",
            "EventService/PollEvents",
            "EventService/SubscribeEvents",
            "SessionService/ListSessions",
            "StateService/ResolveState",
            "StateService/WatchState",
            "VectorService/ListCollections",
        }
    ),
    "refused": frozenset(
        {
            "BackupService/CreateBackup",
            "BackupService/ExportTenant",
            "BackupService/ImportTenant",
            "BackupService/RestoreBackup",
            "JournalService/ListJournals",
            "MigrationService/PlanMigration",
            "MigrationService/PutSchema",
            "MigrationService/StartMigration",
            "RunService/CancelRun",
            "RunService/DeleteRun",
            "RunService/GetRun",
            "RunService/ListRunCalls",
            "RunService/ListRuns",
            "RunService/ReplayRun",
            "RunService/ResumeRun",
            "VectorAdminService/CheckpointIndex",
            "VectorAdminService/DeleteSnapshot",
            "VectorAdminService/ListSnapshots",
            "VectorAdminService/RebuildIndex",
            "VectorService/GetVectorStats",
        }
    ),
}
"""Methods that may be about several scopes without naming them."""


@dataclass(frozen=True, slots=True)
class Named:
    """A scope that a message names."""

    scope: str
    is_source: bool
    """Whether it is only read from."""


@dataclass(slots=True)
class _Form:
    """Where messages of a type name scopes."""

    scopes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    inner: list[tuple[FieldDescriptor, _Form]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.scopes or self.names or self.inner)


def guarded(
    context: CallContext, method: Method, message: Message, *, first: bool = True
) -> CallContext:
    """The context in which a call is made whose message has come.

    Args:
        context: Of the call.
        method: What is called.
        message: What was sent.
        first: Whether it is the first one; those that follow need not name again what it named.

    Raises:
        ServiceError: POLICY_DENIED.
    """
    if not context.policy:
        return context
    dimension = getattr(message, "dimension", 0)
    if dimension:
        check_dimension(context.policy, dimension)
    if not _may_limit(context):
        return context
    named = list(_named(method, message, first=first))
    if first:
        _check_spanning(context, method, named)
    refused = _refused(context, method, named)
    if refused is None:
        return context
    if _reads(method):
        return replace(context, tenant=NOBODY_TENANT)
    raise refused


def may_see(scope: str) -> bool:
    """Whether the caller that is being served may see a scope; for what is about several."""
    context = current_context()
    return not context.policy or _may_see(context, scope)


def may_see_now() -> Callable[[str], bool]:
    """As `may_see`, of the caller that is being served now, whenever it is asked."""
    return partial(_may_see, current_context())


def _may_see(context: CallContext, scope: str) -> bool:
    return sees(context.policy, scope) and not _is_foreign(context, scope)


def sees_all_scopes() -> bool:
    """Whether nothing is kept from the caller that is being served, for its scope."""
    return not _may_limit(current_context())


def _may_limit(context: CallContext) -> bool:
    return limits_scopes(context.policy) or any(rules.sessions != "all" for rules in context.policy)


def _refused(context: CallContext, method: Method, named: Iterable[Named]) -> ServiceError | None:
    if _short(method) == "StateService/ResolveState":  # looks into those only that may be seen
        return None
    if found := first_rule(context.policy, (each.scope for each in named)):
        return refusal(*found)
    return _crossing(context, method, named)


def _crossing(context: CallContext, method: Method, named: Iterable[Named]) -> ServiceError | None:
    """Why a call may not touch the sessions that it names together."""
    reads = _reads(method)
    sessions = {context.session} - {""}
    read = set(sessions)
    for each in named:
        kind, _, name = each.scope.partition(":")
        if kind == "session":
            read.add(name)
            only_read = each.is_source and not _short(method).startswith("StateService/Move")
            if not (reads or only_read):
                sessions.add(name)
    for rules in context.policy:
        touched = read if rules.sessions == "own" else sessions
        if rules.sessions != "all" and len(touched) > 1:
            return refusal(rules.name, f"cross_session {rules.sessions}")
    return None


def _is_foreign(context: CallContext, scope: str) -> bool:
    """Whether it is of a session that a call within another one may not read."""
    kind, _, name = scope.partition(":")
    return (
        kind == "session"
        and context.session not in {"", name}
        and any(rules.sessions == "own" for rules in context.policy)
    )


def _check_spanning(context: CallContext, method: Method, named: list[Named]) -> None:
    """Refuse what is about all scopes, to whoever sees some.

    Raises:
        ServiceError: POLICY_DENIED.
    """
    short = _short(method)
    if short in SPANNING["refused"] and not named:
        name = next(rules.name for rules in context.policy if _limits(rules))
        raise refusal(name, f"{short} is about all scopes, and this caller sees some")
    nameless = short == "SessionService/CreateSession" and not named
    if nameless and not sees_every(context.policy, "session"):
        name = next(rules.name for rules in context.policy if rules.limits_scopes)
        raise refusal(name, "a session without a name of its own could have any")


def _limits(rules: Rules) -> bool:
    return rules.limits_scopes or rules.sessions != "all"


def _reads(method: Method) -> bool:
    return bool(method.descriptor.GetOptions().idempotency_level == _ONLY_READS)


def _short(method: Method) -> str:
    return method.path.removeprefix("/llmspell.v1.")


def _named(method: Method, message: Message, *, first: bool) -> Iterator[Named]:
    """Every scope that a message names, as it is printed; the handler refuses what is none."""
    form = _form(method.path)
    if form.is_empty:
        return
    service, short = _short(method).partition("Service/")[0], _short(method)
    means_global = first and service not in _RUNTIME and short not in _EMPTY_IS_ALL
    yield from _in(form, message, empty_is_global=means_global)


def _in(form: _Form, message: Any, *, empty_is_global: bool) -> Iterator[Named]:
    for name in form.scopes:
        text = getattr(message, name)
        if text == ALL_SCOPES or (not text and not _means_global(message, name, empty_is_global)):
            continue
        try:
            yield Named(str(parse_scope(text)), is_source=name.startswith("source"))
        except ServiceError:
            continue
    for name in form.names:
        text = getattr(message, name)
        if text:
            yield Named(f"{_NAMED[name]}:{text}", is_source=False)
    for descriptor, inner in form.inner:
        for child in _children(message, descriptor):
            yield from _in(inner, child, empty_is_global=empty_is_global)


def _means_global(message: Any, name: str, empty_is_global: bool) -> bool:
    """Whether an empty field names the global scope; one that may be absent does not by that."""
    if not empty_is_global or name in {"component", "subject"}:
        return False
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    return not descriptor.has_presence or message.HasField(name)


def _children(message: Any, descriptor: FieldDescriptor) -> Iterable[Any]:
    value: Any = getattr(message, descriptor.name)
    if descriptor.is_repeated:
        return list(value)
    return (value,) if message.HasField(descriptor.name) else ()


@cache
def _form(path: str) -> _Form:
    return _form_of(METHODS[path].descriptor.input_type, _DEPTH_MAX)


def _form_of(descriptor: Descriptor, depth: int) -> _Form:
    form = _Form()
    for each in descriptor.fields:
        kind = each.message_type
        if each.type == FieldDescriptor.TYPE_STRING and each.name in _SCOPES:
            form.scopes.append(each.name)
        elif each.type == FieldDescriptor.TYPE_STRING and each.name in _NAMED:
            form.names.append(each.name)
        elif kind is not None and depth and not kind.GetOptions().map_entry:
            inner = _form_of(kind, depth - 1)
            if not inner.is_empty:
                form.inner.append((each, inner))
    return form
