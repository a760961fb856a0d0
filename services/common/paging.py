"""Page tokens: opaque, and good only for the request that they were made for (AIP-158)."""

from __future__ import annotations

import base64
import binascii
import hmac

from blake3 import blake3

from services.common.errors import Reason, ServiceError, field_invalid
from services.common.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX

_TAG_BYTES = 16


class PageTokens:
    """Seals cursors. `context_text` is what a token is bound to: tenant, method, scope, filter."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, context_text: str, cursor: bytes) -> str:
        """A token for the page after `cursor`."""
        return base64.urlsafe_b64encode(self._tag(context_text, cursor) + cursor).decode()

    def open(self, token: str, context_text: str) -> bytes:
        """The cursor in a token.

        Raises:
            ServiceError: PAGE_TOKEN_INVALID where it was not made for this request.
        """
        try:
            sealed = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _invalid() from None
        cursor = sealed[_TAG_BYTES:]
        if not hmac.compare_digest(sealed[:_TAG_BYTES], self._tag(context_text, cursor)):
            raise _invalid()
        return cursor

    def _tag(self, context_text: str, cursor: bytes) -> bytes:
        text = context_text.encode()
        # With its length first, no other pair of text and cursor makes the same bytes.
        body = len(text).to_bytes(8, "big") + text + cursor
        return blake3(body, key=self._key).digest(length=_TAG_BYTES)


def page_size(asked: int) -> int:
    """How many to return: 0 means the default, more than the most means the most.

    Raises:
        ServiceError: FIELD_INVALID where it is negative.
    """
    if asked < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _invalid() -> ServiceError:
    return ServiceError(
        Reason.PAGE_TOKEN_INVALID,
        "page_token was not made for this request; start again without it.",
        field="page_token",
    )
