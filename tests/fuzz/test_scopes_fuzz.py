"""Any text at all where a scope should be: one of the known forms, or refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.common.limits import SCOPE_BYTES_MAX
from services.common.scopes import KINDS, parse_scope

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,95}", fullmatch=True)
near = st.builds(
    "{}{}{}".format,
    st.sampled_from(KINDS),
    st.sampled_from([":", "", "::", "/"]),
    (st.text(max_size=100) | st.text("ab:/_-. \n\x00\u0661", max_size=20)),
)


def parsed(text):
    """The scope, None where it was refused as one; any other error passes on."""
    try:
        return parse_scope(text)
    except ServiceError as error:
        if error.reason != Reason.SCOPE_INVALID or len(error.message) > 600:
            raise
        return None


@given(st.text(st.characters(), max_size=300) | near)
@settings(max_examples=2000)
def test_what_is_read_is_printed_the_same(text):
    """There is one text for one scope: no two texts mean the same data."""
    scope = parsed(text)
    if scope is not None:
        assert str(scope) == (text or "global")
        assert parse_scope(str(scope)) == scope
        assert len(text.encode()) <= SCOPE_BYTES_MAX
        assert not set(text) & set("\x00/ \n")


@given(st.sampled_from(KINDS[1:]), names)
@settings(max_examples=300)
def test_every_form_in_the_book_is_read(kind, name):
    """KIND:NAME with every kind."""
    scope = parse_scope(f"{kind}:{name}")
    assert (scope.kind, scope.name) == (kind, name)


@given(names, names)
@settings(max_examples=300)
def test_different_names_are_different_scopes(first, second):
    """Nothing is folded: neither case nor anything else."""
    same = parse_scope(f"user:{first}") == parse_scope(f"user:{second}")
    assert same == (first == second)


@pytest.mark.parametrize(
    "text",
    ["Global", "global:", "global:x", ":x", "user", "user:", "user:a b", "user:a\n", "user:-a"],
)
def test_near_misses_are_refused(text):
    """What a person might type by mistake."""
    assert parsed(text) is None
