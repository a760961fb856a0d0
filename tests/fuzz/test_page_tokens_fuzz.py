"""Any text at all where a page token should be: refused, and never anything else."""

import base64

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.common.paging import PageTokens

TOKENS = PageTokens(bytes(range(32)))
texts = st.text(max_size=60)
cursors = st.binary(max_size=60)


def refused(token, text):
    with pytest.raises(ServiceError) as caught:
        TOKENS.open(token, text)
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID


anything = (
    st.text(st.characters(), max_size=200)
    | st.text("ABCDEFabcdef0123456789-_+/= \n", max_size=200)
    | st.binary(max_size=100).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
)


@given(anything, texts)
@settings(max_examples=1500)
def test_any_text_is_refused(token, text):
    """Nobody makes a token without the key; lone surrogates, spaces and padding included."""
    refused(token, text)


@given(texts, cursors)
@settings(max_examples=500)
def test_every_cursor_comes_back(text, cursor):
    """Whatever the request's text and the cursor's bytes."""
    assert TOKENS.open(TOKENS.seal(text, cursor), text) == cursor


@given(texts, texts, cursors)
@settings(max_examples=500)
def test_no_token_is_good_for_another_request(text, other, cursor):
    """Not for any other text."""
    assume(text != other)
    refused(TOKENS.seal(text, cursor), other)


@given(st.text("ab\x00", max_size=6), st.binary(max_size=6), st.integers(0, 12))
@settings(max_examples=1000)
def test_the_border_cannot_be_moved(text, cursor, border):
    """However text and cursor are divided anew, with any bytes between them."""
    token = base64.urlsafe_b64decode(TOKENS.seal(text, cursor))
    whole = text.encode() + b"\x00" + cursor
    other, rest = whole[:border], whole[border:].removeprefix(b"\x00")
    assume(other.decode("utf-8", "replace") != text)
    moved = base64.urlsafe_b64encode(token[:16] + rest).decode()
    refused(moved, other.decode("utf-8", "replace"))
