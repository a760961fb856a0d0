"""Keys between messages and records: what is checked, and how they are told."""

from __future__ import annotations

import re
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from llmspell.v1 import tenant_pb2

from services.common.clock import Clock
from services.common.context import is_tenant_id
from services.common.errors import field_invalid, limit_exceeded, required
from services.common.limits import DISPLAY_NAME_BYTES_MAX, SCOPES_MAX, TENANT_ID_LENGTH_MAX
from services.gateway.keys import Digests, new_key, read_credential
from services.gateway.registry import KeyRecord
from services.gateway.roles import checked_roles, checked_scopes, permissions_of
from services.gateway.row_filters import checked_row_filter

_KEY_ID = re.compile(r"[a-z0-9]{1,32}", re.ASCII)
_TIME_NS_MAX = 253_402_300_799 * 10**9
"""The end of the year 9999, which is a timestamp's last."""


class HasEnd(Protocol):
    """A request that may say when a key ends."""

    @property
    def expire_time(self) -> Timestamp:
        """From then on it is refused."""

    def HasField(self, field_name: str) -> bool:  # noqa: N802
        """Whether it says so."""


def new_record(
    request: tenant_pb2.CreateApiKeyRequest, digests: Digests, clock: Clock
) -> tuple[KeyRecord, str]:
    """A key as it was asked for, and its whole text, which is nowhere else.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED, FILTER_INVALID.
    """
    key_id, key = new_key()
    roles = checked_roles(request.roles)
    if len(request.scopes) > SCOPES_MAX:
        raise limit_exceeded("scopes", len(request.scopes), SCOPES_MAX)
    record = KeyRecord(
        key_id=key_id,
        tenant_id=checked_tenant_id(request.tenant_id),
        digest=digests.of(key),
        roles=roles,
        display_name=checked_display_name(request.display_name),
        create_ns=clock.now_ns(),
        row_filter=checked_row_filter(request),
        scopes=checked_scopes(permissions_of(roles), request.scopes),
        expires_ns=checked_end(request, clock),
    )
    return record, key


def checked_end(request: HasEnd, clock: Clock) -> int:
    """When a key ends, nanoseconds since the epoch; 0: it does not.

    Raises:
        ServiceError: FIELD_INVALID where that has passed, or is no time.
    """
    if not request.HasField("expire_time"):
        return 0
    time = request.expire_time
    ends_ns = time.seconds * 10**9 + time.nanos
    if not 0 <= time.nanos < 10**9 or not clock.now_ns() < ends_ns <= _TIME_NS_MAX:
        raise field_invalid("expire_time", "must be in the future")
    return ends_ns


def checked_tenant_id(text: str) -> str:
    """A tenant's id.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if not text:
        raise required("tenant_id")
    if not is_tenant_id(text):
        raise field_invalid(
            "tenant_id",
            f"must be 1 to {TENANT_ID_LENGTH_MAX} lower-case letters, digits, '_' and '-', "
            "beginning with a letter or digit",
        )
    return text


def checked_display_name(text: str) -> str:
    """A name for people.

    Raises:
        ServiceError: LIMIT_EXCEEDED.
    """
    size = len(text.encode())
    if size > DISPLAY_NAME_BYTES_MAX:
        raise limit_exceeded("display_name", size, DISPLAY_NAME_BYTES_MAX, "bytes")
    return text


def checked_key_id(text: str) -> str:
    """The public part of a key; whoever pastes the whole key means that one.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if not text:
        raise required("key_id")
    credential = read_credential(text)
    key_id = credential.key_id if credential else text
    if not _KEY_ID.fullmatch(key_id):
        raise field_invalid("key_id", "must be the public part of a key: the ID of llms_ID_SECRET")
    return key_id


def api_key_message(record: KeyRecord, used_ns: int = 0) -> tenant_pb2.ApiKey:
    """A key as the contract has it.

    Args:
        record: As it is kept.
        used_ns: When it was last used, nanoseconds since the epoch; 0: not yet.
    """
    message = tenant_pb2.ApiKey(
        key_id=record.key_id,
        tenant_id=record.tenant_id,
        roles=record.roles,
        display_name=record.display_name,
        scopes=record.scopes,
    )
    if record.row_filter:
        message.row_filter.ParseFromString(record.row_filter)
    message.create_time.FromNanoseconds(record.create_ns)
    if record.expires_ns:
        message.expire_time.FromNanoseconds(record.expires_ns)
    if record.previous_digest:
        message.previous_expire_time.FromNanoseconds(record.previous_expires_ns)
    if used_ns:
        message.last_use_time.FromNanoseconds(used_ns)
    return message
