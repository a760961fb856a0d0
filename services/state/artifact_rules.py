"""What holds for artifacts: names, limits, and which of them a query means. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import (
    ARTIFACT_BYTES_MAX,
    ARTIFACT_DESCRIPTION_BYTES_MAX,
    ARTIFACT_METADATA_BYTES_MAX,
    ARTIFACT_MIME_TYPE_BYTES_MAX,
    ARTIFACT_NAME_BYTES_MAX,
    ARTIFACT_TAG_BYTES_MAX,
    ARTIFACT_TAGS_MAX,
    ARTIFACT_TYPE_BYTES_MAX,
    ARTIFACT_VERSIONS_MAX,
)
from services.state.artifact_model import Artifact, Choice, Draft, Query
from services.state.blob_format import Blob
from services.state.rules import check_place

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DIGEST_BYTES = 32


def check_draft(tenant: str, draft: Draft) -> None:
    """Refuse an artifact that cannot be kept, before a byte of it is taken.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    check_place(tenant, draft.scope)
    check_name(draft.name)
    _check_text("artifact_type", draft.artifact_type, ARTIFACT_TYPE_BYTES_MAX)
    _check_text("mime_type", draft.mime_type, ARTIFACT_MIME_TYPE_BYTES_MAX)
    _check_bytes("description", draft.description, ARTIFACT_DESCRIPTION_BYTES_MAX)
    check_tags(draft.tags)
    _check_metadata(draft.metadata or {})
    check_digest(draft.parent_digest, "parent_digest")
    check_digest(draft.expected_digest, "digest")
    if draft.expected_size_bytes is not None:
        check_size(draft.expected_size_bytes)
    if not 0 <= draft.keep_versions <= ARTIFACT_VERSIONS_MAX:
        raise field_invalid("keep_versions", f"must be between 0 and {ARTIFACT_VERSIONS_MAX}")


def check_name(name: str, field: str = "name") -> None:
    """Refuse a name: 1 to 256 bytes of UTF-8 in normal form C, without control characters."""
    if not name:
        raise required(field)
    _check_text(field, name, ARTIFACT_NAME_BYTES_MAX)
    if not unicodedata.is_normalized("NFC", name):
        raise field_invalid(field, "must be in Unicode's normal form C")


def check_tags(tags: tuple[str, ...]) -> None:
    """Refuse tags that are too many, too long, empty, or repeated."""
    if len(tags) > ARTIFACT_TAGS_MAX:
        raise limit_exceeded("tags", len(tags), ARTIFACT_TAGS_MAX)
    for number, tag in enumerate(tags):
        if not tag:
            raise required(f"tags[{number}]")
        _check_text(f"tags[{number}]", tag, ARTIFACT_TAG_BYTES_MAX)
    if len(set(tags)) < len(tags):
        raise field_invalid("tags", "must not name one twice")


def check_digest(digest: bytes, field: str) -> None:
    """Refuse a digest of another length; empty is fine."""
    if digest and len(digest) != _DIGEST_BYTES:
        raise field_invalid(field, "must be the 64 hexadecimal digits of a blake3 digest")


def check_size(size_bytes: int) -> None:
    """Refuse more bytes than an artifact may have."""
    if size_bytes > ARTIFACT_BYTES_MAX:
        raise limit_exceeded("size_bytes", size_bytes, ARTIFACT_BYTES_MAX, "bytes")


def check_choice(tenant: str, choice: Choice) -> None:
    """Refuse to choose by nothing."""
    check_place(tenant, choice.scope)
    check_digest(choice.digest, "digest")
    if choice.name:
        check_name(choice.name)
    elif choice.version:
        raise required("name")
    elif not choice.digest and not choice.sequence:
        raise required("name, digest or sequence")


def check_deletion(choice: Choice, *, all_versions: bool) -> None:
    """Refuse to delete by a name alone: which version is meant must be said."""
    if all_versions and not choice.name:
        raise required("name")
    if choice.name and not (all_versions or choice.version or choice.digest or choice.sequence):
        raise required("version or all_versions")


def check_query(tenant: str, query: Query) -> None:
    """Refuse a query that no artifact could be asked for with."""
    check_place(tenant, query.scope)
    _check_text("artifact_type", query.artifact_type, ARTIFACT_TYPE_BYTES_MAX)
    _check_text("name_pattern", query.name_pattern, ARTIFACT_NAME_BYTES_MAX)
    check_tags(query.tags)


def check_content(draft: Draft, blob: Blob) -> None:
    """Refuse bytes that are not those that were announced.

    Raises:
        ServiceError: DIGEST_MISMATCH.
    """
    if draft.expected_size_bytes not in {None, blob.size_bytes}:
        raise _mismatch("size_bytes", draft.expected_size_bytes, blob.size_bytes)
    if draft.expected_digest not in {b"", blob.digest}:
        raise _mismatch("digest", draft.expected_digest.hex(), blob.digest.hex())


def not_found(choice: Choice) -> ServiceError:
    """There is no such artifact."""
    asked: dict[str, object] = {"scope": choice.scope}
    if choice.name:
        asked["name"] = choice.name
    if choice.version:
        asked["version"] = choice.version
    if choice.digest:
        asked["digest"] = choice.digest.hex()
    if choice.sequence:
        asked["sequence"] = choice.sequence
    words = ", ".join(f"{field} {value}" for field, value in asked.items() if field != "scope")
    return ServiceError(
        Reason.ARTIFACT_NOT_FOUND,
        f"There is no artifact with {words} in scope {choice.scope}.",
        **asked,
    )


def chosen(choice: Choice, artifact: Artifact) -> bool:
    """Whether all that was given holds for an artifact."""
    return (
        choice.name in {"", artifact.name}
        and choice.version in {0, artifact.version}
        and choice.digest in {b"", artifact.digest}
        and choice.sequence in {0, artifact.sequence}
    )


def matches(query: Query, artifact: Artifact) -> bool:
    """Whether an artifact is one that a query asks for."""
    return (
        query.artifact_type in {"", artifact.artifact_type}
        and (not query.name_pattern or matches_pattern(artifact.name, query.name_pattern))
        and set(query.tags) <= set(artifact.tags)
        and _within(artifact.create_time_ns, query.created_after_ns, query.created_before_ns)
        and _within(artifact.size_bytes, query.size_bytes_min, None)
        and (query.size_bytes_max is None or artifact.size_bytes <= query.size_bytes_max)
    )


def matches_pattern(name: str, pattern: str) -> bool:
    """Whether a whole name is one of a pattern; `*` is any characters, `?` is one.

    Takes at most name times pattern steps, whatever the pattern: it is given by strangers.
    """
    at = place = 0
    star, resume = -1, 0
    while at < len(name):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in {"?", name[at]}:
            at += 1
            place += 1
        elif star >= 0:  # let the last star take one more
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return not pattern[place:].strip("*")


def _within(number: int, least: int | None, end: int | None) -> bool:
    return (least is None or number >= least) and (end is None or number < end)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    size = len(msgspec.msgpack.encode(metadata))
    if size > ARTIFACT_METADATA_BYTES_MAX:
        raise limit_exceeded("metadata", size, ARTIFACT_METADATA_BYTES_MAX, "bytes")


def _check_text(field: str, text: str, bytes_max: int) -> None:
    _check_bytes(field, text, bytes_max)
    if _CONTROL.search(text):
        raise field_invalid(field, "must not contain control characters")


def _check_bytes(field: str, text: str, bytes_max: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise field_invalid(field, "must be text that UTF-8 can hold") from None
    if size > bytes_max:
        raise limit_exceeded(field, size, bytes_max, "bytes")


def _mismatch(field: str, expected: object, got: object) -> ServiceError:
    return ServiceError(
        Reason.DIGEST_MISMATCH,
        f"{field} of the bytes that came is {got}; {expected} was announced. Nothing was stored.",
        field=field,
        expected=expected,
        got=got,
    )
