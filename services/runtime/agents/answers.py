"""Answers that must be JSON of a schema: read, checked, and asked for again once."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from services.common.errors import Reason, ServiceError
from services.runtime.agents.schemas import Schema

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def instruction(schema: Schema) -> str:
    """What the model is told of the form of its answer."""
    text = msgspec.json.encode(schema.tree).decode()
    return f"Answer with JSON only, without any other words. It must fit this JSON Schema:\n{text}"


def read_answer(text: str, schema: Schema) -> tuple[Any, str]:
    """The value of an answer, and what is wrong with it; empty where nothing is."""
    fenced = _FENCED.fullmatch(text)
    try:
        value = msgspec.json.decode(fenced.group(1) if fenced else text.strip())
    except (msgspec.DecodeError, RecursionError) as error:
        return None, f"it is not JSON ({str(error)[:200]})"
    return value, schema.fault(value)


def repair(fault: str) -> str:
    """What the model is told of an answer that does not fit."""
    return (
        f"Your answer does not fit the schema: {fault}. Answer again: the corrected JSON and "
        "nothing else."
    )


def invalid(fault: str, model: str) -> ServiceError:
    """It did not fit twice."""
    return ServiceError(
        Reason.PROVIDER_ANSWER_INVALID,
        f"The answer of {model} does not fit the schema that was asked for, twice: {fault}.",
        provider=model.partition("/")[0],
        model=model,
    )
