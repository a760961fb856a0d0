"""tool-state: what a tool, or a script on its behalf, keeps between executions."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.common.errors import Reason, ServiceError, field_invalid, required
from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters
from services.runtime.tools.inner.desk import InnerDesk

_PAGE_SIZE = 1000
_KEYS_MAX = 10_000
_NAME = r"^[^\x00-\x1f\x7f]{1,64}$"


async def _get(place: Mapping[str, str], arguments: Arguments, desk: InnerDesk) -> dict[str, Any]:
    del arguments
    try:
        answer = await desk.ask("StateService/GetState", place)
    except ServiceError as error:
        if error.reason != Reason.ITEM_NOT_FOUND:
            raise
        return {"value": None, "found": False}
    item = answer["item"]
    return {"value": _value(item["value"]), "found": True, "revision": item["revision"]}


async def _set(place: Mapping[str, str], arguments: Arguments, desk: InnerDesk) -> dict[str, Any]:
    if "value" not in arguments:
        raise required("value")
    try:
        document = json.dumps(arguments["value"], ensure_ascii=False, sort_keys=True)
    except TypeError:  # text of a script that is no UTF-8
        raise field_invalid("value", "must not hold bytes; it is kept as JSON") from None
    request = {**place, "value": {"json": document}, "ttl": arguments.get("ttl_seconds")}
    answer = await desk.ask("StateService/SetState", request)
    return {"revision": answer["revision"]}


async def _delete(
    place: Mapping[str, str], arguments: Arguments, desk: InnerDesk
) -> dict[str, Any]:
    del arguments
    answer = await desk.ask("StateService/DeleteState", place)
    return {"deleted": answer["deleted_count"] > 0}


async def _list(place: Mapping[str, str], arguments: Arguments, desk: InnerDesk) -> dict[str, Any]:
    keys: list[str] = []
    token = ""
    while True:
        request = {
            "scope": place["scope"],
            "prefix": arguments.get("prefix"),
            "keys_only": True,
            "page_size": _PAGE_SIZE,
            "page_token": token,
        }
        answer = await desk.ask("StateService/ListState", request)
        keys += [item["key"] for item in answer["items"]]
        token = answer["next_page_token"]
        if not token or len(keys) >= _KEYS_MAX:
            return {"keys": keys[:_KEYS_MAX], "count": len(keys), "complete": not token}


_Operation = Callable[[Mapping[str, str], Arguments, InnerDesk], Awaitable[dict[str, Any]]]
_OPERATIONS: Mapping[str, _Operation] = {
    "get": _get,
    "set": _set,
    "delete": _delete,
    "list": _list,
}
_WORDS = {"get": "Read", "set": "Wrote", "delete": "Deleted", "list": "Listed the keys of"}


async def _run(arguments: Arguments, desk: InnerDesk) -> Outcome:
    operation, name = arguments["operation"], arguments["tool_name"]
    place = {"scope": f"tool:{name}"}
    result: dict[str, Any] = {"tool_name": name}
    if operation != "list":
        if not arguments.get("key"):
            raise required("key")
        place["key"] = result["key"] = arguments["key"]
    elif "key" in arguments:
        raise field_invalid("key", "has no meaning for list; did you mean prefix?")
    result |= await _OPERATIONS[operation](place, arguments, desk)
    words = f"{_WORDS[operation]} {arguments.get('key', '') or name}"
    return Outcome(operation=operation, result=result, message=words)


def _value(payload: Any) -> Any:
    """What an item holds, whoever wrote it."""
    if not isinstance(payload, dict):
        return payload
    if "json" in payload:
        return json.loads(payload["json"])
    return payload.get("text", payload.get("raw"))


TOOL = Tool(
    name="tool-state",
    description="Keeps values for a tool between executions, in the scope tool:NAME.",
    category="state",
    level=Level.RESTRICTED,
    synonyms={"tool": "tool_name", "tool_id": "tool_name", "input": "value", "data": "value"},
    parameters=parameters(
        ("tool_name",),
        operation={
            "enum": list(_OPERATIONS),
            "default": "get",
            "description": "What to do.",
        },
        tool_name={
            "type": "string",
            "pattern": _NAME,
            "description": "Whose values they are: those of the scope tool:NAME.",
        },
        key={"type": "string", "description": "Which value; for all but `list`."},
        value={"description": "What to keep, of any kind; for `set`."},
        ttl_seconds={
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "How long to keep it; by default for ever.",
        },
        prefix={"type": "string", "description": "Only keys that begin so; for `list`."},
    ),
    result={
        "type": "object",
        "properties": {
            "tool_name": {"type": "string", "description": "Whose value it is."},
            "key": {"type": "string", "description": "Which one."},
            "value": {"description": "What is kept; null where there is nothing."},
            "found": {"type": "boolean", "description": "Whether there was one."},
            "revision": {"type": "integer", "description": "The change that made it so."},
            "deleted": {"type": "boolean", "description": "Whether there was one to delete."},
            "keys": {
                "type": "array",
                "items": {"type": "string"},
                "description": "In order, at most 10 000.",
            },
            "count": {"type": "integer", "description": "How many there are."},
            "complete": {"type": "boolean", "description": "Whether these are all keys."},
        },
        "required": ["tool_name"],
    },
    notes="The items that `State.tool_get` and `State.tool_set` see. Needs state.read or "
    "state.write.",
    run=_run,
)
