"""Do policies decide as a plain reading of their rules does?

The reference below is all that the guide says of policies, in thirty lines and without a cache, a
pattern compiled or a scope class.
"""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.access import METHODS
from services.common.policy import Rules, operation_refusal, sees

EXAMPLES = int(os.environ.get("LLMSPELL_POLICY_CASES", "200"))
KINDS = ["user", "session", "agent", "custom"]
NAMES = ["a", "al", "alice", "alice2", "A"]
PAIRS = sorted(
    (path.removeprefix("/llmspell.v1."), method.permission) for path, method in METHODS.items()
)
OPERATIONS = st.sampled_from(
    [
        "*",
        *sorted({permission for _, permission in PAIRS}),
        *sorted({permission.split(".")[0] + ".*" for _, permission in PAIRS}),
        *[method for method, _ in PAIRS],
        *sorted({method.split("/")[0] + "/*" for method, _ in PAIRS}),
        "StateService/Get*",
        "VectorService/S*",
    ]
)
SCOPES = ["global", *[f"{kind}:{name}" for kind in KINDS for name in NAMES]]
PATTERNS = st.sampled_from(["*", *SCOPES, *[f"{kind}:*" for kind in KINDS]])


def some(strategy, most=3):
    return st.lists(strategy, max_size=most).map(tuple)


RULES = st.builds(
    Rules,
    name=st.just("p"),
    allow=some(OPERATIONS),
    deny=some(OPERATIONS),
    scopes=some(PATTERNS),
    denied_scopes=some(PATTERNS),
)


def reference_operation(policies, method, permission):
    """Each policy must allow it, and none deny it. Who it is everybody may know."""

    def fits(pattern):
        if pattern == "*":
            return True
        asked = method if "/" in pattern else permission
        if pattern[-1] == "*":
            return asked[: len(pattern) - 1] == pattern[:-1]
        return asked == pattern

    return method == "TenantService/WhoAmI" or all(
        any(map(fits, each.allow)) and not any(map(fits, each.deny)) for each in policies
    )


def reference_scope(policies, scope):
    """Each policy must have it, and none deny it; a star stands for a whole name only."""

    def fits(pattern):
        if pattern in {"*", scope}:
            return True
        kind, _, name = pattern.partition(":")
        return name == "*" and scope.split(":")[0] == kind and ":" in scope

    return all(
        any(map(fits, each.scopes)) and not any(map(fits, each.denied_scopes)) for each in policies
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(some(RULES), st.sampled_from(PAIRS))
def test_operations(policies, pair):
    """The same operations are let through."""
    refused = operation_refusal(policies, *pair)
    assert (refused is None) == reference_operation(policies, *pair)


@settings(max_examples=EXAMPLES, deadline=None)
@given(some(RULES), st.sampled_from(SCOPES))
def test_scopes(policies, scope):
    """The same scopes are seen, `alice2` never for `alice`."""
    assert sees(policies, scope) == reference_scope(policies, scope)
