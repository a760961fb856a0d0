"""services.common.scopes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.common.limits import SCOPE_BYTES_MAX
from services.common.scopes import GLOBAL, KINDS, Scope, parse_scope


@pytest.mark.parametrize("text", ["", "global"])
def test_global(text):
    """The empty text and `global` are the same scope."""
    assert parse_scope(text) == GLOBAL


@pytest.mark.parametrize("kind", KINDS[1:])
def test_print_is_the_inverse_of_parse(kind):
    """Each kind with a name reads back as the text that it was."""
    text = f"{kind}:Ab-9_x"
    assert parse_scope(text) == Scope(kind, "Ab-9_x")
    assert str(parse_scope(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "tenant:acme",
        "user",
        "user:",
        ":a",
        "global:",
        "global:a",
        "USER:a",
        "user:a:b",
        "user: a",
        " user:a",
        "user:a ",
        "user:a\n",
        "user:-a",
        "user:_a",
        "user:a/b",
        "user:..",
        "user:%61",
        "user:a\0b",
        "user:é",
        "user:\uff41",
        "us\u0435r:a",
        "user:" + "a" * 97,
        "x" * 5000,
    ],
)
def test_anything_else_is_refused(text):
    """What is not exactly one of the forms is refused, and a long text is cut in the answer."""
    with pytest.raises(ServiceError) as info:
        parse_scope(text)
    assert info.value.reason == Reason.SCOPE_INVALID
    assert len(info.value.metadata["scope"]) <= 64


def test_longest_fits_its_limit():
    """The longest scope that parses fits the room that keys leave for it."""
    longest = max(len(f"{kind}:{'a' * 96}") for kind in KINDS[1:])
    assert longest <= SCOPE_BYTES_MAX
    for kind in KINDS[1:]:
        assert parse_scope(f"{kind}:{'a' * 96}").kind == kind


@given(st.text(alphabet="abglou:sertni-_ \0\né", max_size=20))
def test_parsed_text_is_printed_unchanged(text):
    """Whatever parses is printed as it came: no two texts are the same scope, but `` and global."""
    try:
        scope = parse_scope(text)
    except ServiceError as error:
        assert error.reason == Reason.SCOPE_INVALID  # noqa: PT017  (most texts are refused)
    else:
        assert str(scope) == (text or "global")
