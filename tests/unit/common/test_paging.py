"""Page tokens: good for the request that they were made for, and for nothing else."""

import base64

import pytest

from services.common.errors import Reason, ServiceError
from services.common.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from services.common.paging import PageTokens, page_size

TOKENS = PageTokens(bytes(range(32)))
ACME = "acme|ListState|global|"


def refused(token, text=ACME, tokens=TOKENS):
    with pytest.raises(ServiceError) as caught:
        tokens.open(token, text)
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize("cursor", [b"", b"k", b"\x00\xff" * 200])
def test_a_cursor_comes_back(cursor):
    """What was sealed is what is opened."""
    assert TOKENS.open(TOKENS.seal(ACME, cursor), ACME) == cursor


def test_it_is_bound_to_its_request():
    """Another tenant, method, scope or filter cannot use it."""
    token = TOKENS.seal(ACME, b"k")
    for other in ("globex|ListState|global|", "acme|ListRecords|global|", "", ACME + " "):
        refused(token, other)


def test_the_border_of_text_and_cursor_cannot_be_moved():
    """A NUL in the request's text cannot make two requests look alike (found in review)."""
    token = TOKENS.seal("acme\x00b", b"c")
    refused(token, "acme")
    sealed = base64.urlsafe_b64decode(token)
    moved = base64.urlsafe_b64encode(sealed[:16] + b"b\x00c").decode()
    refused(moved, "acme")


def test_another_key_is_refused():
    """A token of another deployment is no token."""
    refused(PageTokens(bytes(32)).seal(ACME, b"k"))


@pytest.mark.parametrize("token", ["", "x", "====", "AAAA", "é", "a b", "\ud800", "A" * 100_000])
def test_what_is_no_token_is_refused(token):
    """Any other text is refused as a token, not raised as something else."""
    refused(token)


def test_every_changed_character_is_refused():
    """No bit of what a token says may change."""
    sealed = base64.urlsafe_b64decode(TOKENS.seal(ACME, b"cursor"))
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        refused(base64.urlsafe_b64encode(bytes(damaged)).decode())


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (0, PAGE_SIZE_DEFAULT),
        (1, 1),
        (PAGE_SIZE_MAX, PAGE_SIZE_MAX),
        (PAGE_SIZE_MAX + 1, PAGE_SIZE_MAX),
        (2**31 - 1, PAGE_SIZE_MAX),
    ],
)
def test_page_sizes(asked, given):
    """0 means the default, more than the most means the most."""
    assert page_size(asked) == given


def test_a_negative_page_size_is_refused():
    """Less than nothing cannot be returned."""
    with pytest.raises(ServiceError) as caught:
        page_size(-1)
    assert caught.value.reason == Reason.FIELD_INVALID
    assert caught.value.metadata["field"] == "page_size"
