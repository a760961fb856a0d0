"""What policies let a caller do, as it travels with the call: evaluated alike at every door.

A policy is a list of what it lets through: operations, scopes, vectors up to a dimension. Of the
policies that apply to a caller each must let a call through. So a policy takes away and never
gives: what a role may not, no policy lets it do.

Operations are patterns: a permission (`state.read`, `state.*`), a method (`StateService/GetState`,
`StateService/*`, `StateService/Get*`), or `*`. Scopes are patterns too: `global`, `user:alice`,
`session:*`, or `*`. They are parsed and compared part by part, never by how their text begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid
from services.common.scopes import GLOBAL, KINDS, Scope, parse_scope

ANY = "*"
Sessions = Literal["all", "read", "own"]

_PERMISSION = re.compile(r"[a-z]+\.(?:[a-z]+|\*)", re.ASCII)
_METHOD = re.compile(r"[A-Z][A-Za-z]{0,63}/(?:[A-Z][A-Za-z]{0,63}\*?|\*)", re.ASCII)
_MEMO_MAX = 1000
ALWAYS = "TenantService/WhoAmI"
"""What no policy takes away: everybody may know who it is."""


class Rules(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one policy lets through."""

    name: str
    """Which policy it is, with its version, as refusals name it."""
    allow: tuple[str, ...] = (ANY,)
    """Operations."""
    deny: tuple[str, ...] = ()
    """Operations that are refused although they are allowed."""
    scopes: tuple[str, ...] = (ANY,)
    denied_scopes: tuple[str, ...] = ()
    max_dimension: int = 0
    """Of vectors and collections; 0: any."""
    sessions: Sessions = "all"
    """Which sessions a call that works in one may touch beside it."""

    @property
    def limits_scopes(self) -> bool:
        """Whether there are scopes that it does not let through."""
        return ANY not in self.scopes or bool(self.denied_scopes)


Policy = tuple[Rules, ...]
"""Those that apply to a caller."""


def operation_refusal(policy: Policy, method: str, permission: str) -> ServiceError | None:
    """Why an operation is refused; None where it is not.

    Args:
        policy: The caller's.
        method: Such as `StateService/GetState`.
        permission: What the method asks for.
    """
    for rules in policy:
        refused = _operation(rules, method, permission)
        if refused and method != ALWAYS:
            return refusal(rules.name, refused)
    return None


def sees(policy: Policy, scope: str) -> bool:
    """Whether a scope is one that the policies let through; of what is none, no."""
    return not policy or scope_rule(policy, scope) is None


def scope_rule(policy: Policy, scope: str) -> tuple[str, str] | None:
    """Policy and rule that keep a scope from a caller; None where none does."""
    return first_rule(policy, (scope,))


def first_rule(policy: Policy, scopes: Iterable[str]) -> tuple[str, str] | None:
    """Likewise, the first of several scopes that is kept from a caller."""
    memos = [(rules, _memo(rules)) for rules in policy if rules.limits_scopes]
    for scope in scopes:
        for rules, memo in memos:
            if scope not in memo:
                if len(memo) >= _MEMO_MAX:
                    memo.clear()
                memo[scope] = _scope(rules, scope)
            if memo[scope]:
                return rules.name, memo[scope]
    return None


def limits_scopes(policy: Policy) -> bool:
    """Whether a caller does not see all scopes of its tenant."""
    return any(rules.limits_scopes for rules in policy)


def sees_every(policy: Policy, kind: str) -> bool:
    """Whether a caller sees all scopes of a kind."""
    return all(_sees_every(rules, kind) for rules in policy)


def max_dimension(policy: Policy) -> int:
    """The largest dimension; 0: any."""
    return min((rules.max_dimension for rules in policy if rules.max_dimension), default=0)


def check_dimension(policy: Policy, dimension: int) -> None:
    """Let vectors of a dimension through.

    Raises:
        ServiceError: POLICY_DENIED.
    """
    for rules in policy:
        if 0 < rules.max_dimension < dimension:
            raise refusal(rules.name, f"max_dimension {rules.max_dimension}", got=dimension)


def refusal(policy: str, rule: str, **metadata: object) -> ServiceError:
    """A call that a policy does not let through."""
    return ServiceError(
        Reason.POLICY_DENIED,
        f"The policy {policy} does not let this through: {rule}.",
        policy=policy,
        rule=rule,
        **metadata,
    )


def checked_operations(field: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """Patterns of operations, each once.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    found = tuple(dict.fromkeys(patterns))
    for number, pattern in enumerate(found):
        if pattern != ANY and not (_PERMISSION.fullmatch(pattern) or _METHOD.fullmatch(pattern)):
            raise field_invalid(
                f"{field}[{number}]",
                "must be a permission such as state.read or state.*, a method such as "
                "StateService/GetState, StateService/Get* or StateService/*, or *",
            )
    return found


def checked_scopes(field: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """Patterns of scopes, each once.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    found = tuple(dict.fromkeys(patterns))
    for number, pattern in enumerate(found):
        if pattern != ANY and _pattern(pattern) is None:
            raise field_invalid(
                f"{field}[{number}]",
                f"must be *, global, KIND:* or KIND:NAME with KIND one of {', '.join(KINDS[1:])}",
            )
    return found


@lru_cache(maxsize=8192)
def _operation(rules: Rules, method: str, permission: str) -> str:
    """The rule that refuses an operation; empty: none does."""
    for number, pattern in enumerate(rules.deny):
        if _names(pattern, method, permission):
            return f"deny[{number}] {pattern}"
    if any(_names(pattern, method, permission) for pattern in rules.allow):
        return ""
    return f"allow has neither {permission} nor {method}"


def _names(pattern: str, method: str, permission: str) -> bool:
    if pattern == ANY:
        return True
    whole = method if "/" in pattern else permission
    return whole.startswith(pattern[:-1]) if pattern.endswith(ANY) else whole == pattern


@lru_cache(maxsize=1024)
def _memo(rules: Rules) -> dict[str, str]:
    """What was found of scopes under these rules, which take longer to hash than to ask."""
    del rules
    return {}


def _scope(rules: Rules, text: str) -> str:
    """The rule that keeps a scope away; empty: none does."""
    try:
        scope = parse_scope(text)
    except ServiceError:
        return "it is no scope"
    for number, pattern in enumerate(rules.denied_scopes):
        if _has(pattern, scope):
            return f"denied_scopes[{number}] {pattern}"
    return "" if any(_has(pattern, scope) for pattern in rules.scopes) else f"scopes lack {scope}"


def _has(pattern: str, scope: Scope) -> bool:
    return pattern == ANY or _pattern(pattern) in {scope, Scope(scope.kind, ANY)}


@lru_cache(maxsize=8192)
def _pattern(text: str) -> Scope | None:
    """A pattern as a scope, whose name is a star where it stands for all of a kind."""
    if text == str(GLOBAL):
        return GLOBAL
    kind, _, name = text.partition(":")
    if name == ANY:
        return Scope(kind, ANY) if kind in KINDS[1:] else None
    try:
        return parse_scope(text) if text else None
    except ServiceError:
        return None


def _sees_every(rules: Rules, kind: str) -> bool:
    whole = {ANY, f"{kind}:{ANY}"}
    none_denied = not any(
        pattern == ANY or pattern.partition(":")[0] == kind for pattern in rules.denied_scopes
    )
    return none_denied and not whole.isdisjoint(rules.scopes)
