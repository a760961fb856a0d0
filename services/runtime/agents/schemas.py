"""JSON Schemas that callers give: of an answer, of a function's arguments."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec

from services.common.errors import field_invalid, limit_exceeded
from services.common.limits import AGENT_SCHEMA_BYTES_MAX

_MESSAGE_LENGTH_MAX = 500
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


class Schema:
    """One schema, compiled: offline, with patterns in linear time."""

    def __init__(self, text: str, field: str) -> None:
        """Read it.

        Raises:
            ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
        """
        size = len(text.encode())
        if size > AGENT_SCHEMA_BYTES_MAX:
            raise limit_exceeded(field, size, AGENT_SCHEMA_BYTES_MAX, "bytes")
        try:
            self.tree: dict[str, Any] = msgspec.json.decode(text, type=dict)
            self._validator = jsonschema_rs.validator_for(
                self.tree, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (msgspec.DecodeError, RecursionError):
            raise field_invalid(field, "must be a JSON Schema: an object in JSON") from None
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            why = str(getattr(error, "message", error))[:_MESSAGE_LENGTH_MAX]
            raise field_invalid(field, f"is not a JSON Schema that can be used: {why}") from None

    def fault(self, value: Any) -> str:
        """What does not fit, in words with the place; empty where all does."""
        error = next(iter(self._validator.iter_errors(value)), None)
        if error is None:
            return ""
        place = "/".join(str(step) for step in error.instance_path)
        message = error.message[:_MESSAGE_LENGTH_MAX]
        return f"{place}: {message}" if place else message
