"""JSON Schemas of strangers: offline, with patterns in linear time."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from services.runtime.toolbox.model import field_invalid
from services.runtime.toolbox.schema import listing, record, text

ERRORS_MAX = 100
_MESSAGE_LENGTH_MAX = 500

ERRORS = listing(
    f"What does not fit, at most {ERRORS_MAX}.",
    record(
        "",
        ("path", "rule", "message"),
        path=text("Where in the value, as a JSON Pointer."),
        rule=text("Keyword of the schema, such as `required`."),
        message=text("What is wrong."),
    ),
)
"""Schema of what `faults` gives."""


def faults(value: Any, schema: Any, *, field: str) -> list[dict[str, str]]:
    """What does not fit; none where all does.

    Raises:
        ToolError: FIELD_INVALID where `schema` is none, or refers to another document.
    """
    if not isinstance(schema, dict | bool):
        raise field_invalid(field, "must be a JSON Schema: an object, true or false")
    try:
        validator = jsonschema_rs.validator_for(
            schema,
            offline=True,
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
        found: list[dict[str, str]] = []
        for error in validator.iter_errors(value):
            if len(found) == ERRORS_MAX:
                break
            found.append(_fault(error))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        text_of = str(getattr(error, "message", error))
        rule = f"is not a JSON Schema that can be used: {text_of[:_MESSAGE_LENGTH_MAX]}"
        raise field_invalid(field, rule) from None
    return found


def _fault(error: jsonschema_rs.ValidationError) -> dict[str, str]:
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in error.instance_path)
    return {
        "path": "".join(f"/{step}" for step in steps),
        "rule": error.kind.name,
        "message": error.message[:_MESSAGE_LENGTH_MAX],
    }
