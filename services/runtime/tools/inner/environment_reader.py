"""environment-reader: variables of this process that the operator has allowed, and no others."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

from services.common.errors import Reason, ServiceError, required
from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters
from services.runtime.tools.inner.desk import InnerDesk, Surroundings

BLOCKED = (
    "*PASSWORD*",
    "*SECRET*",
    "*KEY*",
    "*TOKEN*",
    "*CREDENTIAL*",
    "*AUTH*",
    "AWS_*",
    "AZURE_*",
    "GCP_*",
    "*_PRIVATE_*",
    "SSH_*",
    "GITHUB_TOKEN",
    "API_*",
)
"""Never told, whatever the operator allows."""
_VARIABLES_MAX = 100
_VALUE_LENGTH_MAX = 4096


def _is_readable(name: str, surroundings: Surroundings) -> bool:
    folded = name.upper()
    if any(fnmatch.fnmatchcase(folded, pattern) for pattern in BLOCKED):
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in surroundings.environment)


async def _run(arguments: Arguments, desk: InnerDesk) -> Outcome:
    operation = arguments["operation"]
    if operation == "set":
        raise _refused("environment-reader changes no variable: `set` is switched off.", "set")
    if operation == "get":
        return _get(arguments, desk.surroundings)
    pattern = "*"
    if operation == "pattern":
        pattern = _needed(arguments, "pattern")
    found = _matching(pattern, desk.surroundings)
    return Outcome(operation=operation, result=found, message=f"{len(found)} variables")


def _get(arguments: Arguments, surroundings: Surroundings) -> Outcome:
    name = _needed(arguments, "variable_name")
    if not _is_readable(name, surroundings):
        raise _refused(f"The variable {name[:100]} may not be read here.", name[:100])
    value = surroundings.variables.get(name)
    result = {
        "variable_name": name,
        "value": value[:_VALUE_LENGTH_MAX] if value is not None else None,
        "found": value is not None,
    }
    return Outcome(operation="get", result=result)


def _matching(pattern: str, surroundings: Surroundings) -> Mapping[str, str]:
    names = sorted(
        name
        for name in surroundings.variables
        if fnmatch.fnmatchcase(name, pattern) and _is_readable(name, surroundings)
    )
    return {
        name: surroundings.variables[name][:_VALUE_LENGTH_MAX] for name in names[:_VARIABLES_MAX]
    }


def _needed(arguments: Arguments, name: str) -> str:
    if not arguments.get(name):
        raise required(name)
    text: str = arguments[name]
    return text


def _refused(message: str, name: str) -> ServiceError:
    return ServiceError(Reason.PERMISSION_DENIED, message, variable=name)


TOOL = Tool(
    name="environment-reader",
    description="Reads variables of the runtime's environment that the operator has allowed.",
    category="system",
    level=Level.RESTRICTED,
    old_names=("environment-manager", "environment_manager"),
    synonyms={"name": "variable_name", "variable": "variable_name", "input": "variable_name"},
    parameters=parameters(
        operation={
            "enum": ["get", "list", "pattern", "set"],
            "default": "get",
            "description": "What to do; `set` is known and always refused.",
        },
        variable_name={"type": "string", "maxLength": 256, "description": "Which one, for `get`."},
        value={"type": "string", "description": "For `set`, which is refused."},
        pattern={
            "type": "string",
            "maxLength": 256,
            "description": "Which ones, for `pattern`: `*` is any characters, `?` one.",
        },
    ),
    result={
        "type": "object",
        "description": "Of `get`: the fields below; else a value by the name of each variable.",
        "properties": {
            "variable_name": {"type": "string", "description": "Which one."},
            "value": {"type": ["string", "null"], "description": "Its value, if it is set."},
            "found": {"type": "boolean", "description": "Whether it is set."},
        },
    },
    notes="Allowed names are those of the setting runtime.tool_environment. Names that look like "
    "credentials are never told, whatever it says: " + " ".join(BLOCKED) + ". At most 100.",
    run=_run,
)
