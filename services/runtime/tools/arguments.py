"""What the arguments of a call must be: names of today, defaults, and a JSON Schema."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import jsonschema_rs

from services.common.errors import Reason, ServiceError, field_invalid
from services.runtime.toolbox.model import Arguments

MESSAGE_LENGTH_MAX = 500
NO_SYNONYMS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class ArgumentRules:
    """Of one tool, or of whatever else is called by name with arguments by name."""

    name: str
    """Of what is called."""
    parameters: Mapping[str, Any]
    """JSON Schema of an object."""
    synonyms: Mapping[str, str]
    """Old name of a parameter → its name."""
    schema: Any
    """`parameters`, compiled."""

    @classmethod
    def of(
        cls, name: str, parameters: Mapping[str, Any], synonyms: Mapping[str, str] = NO_SYNONYMS
    ) -> Self:
        """Compile them."""
        return cls(name, parameters, synonyms, jsonschema_rs.validator_for(dict(parameters)))

    def accept(self, arguments: Mapping[str, Any]) -> Arguments:
        """The arguments under their names of today, with defaults, as the schema wants them.

        Raises:
            ServiceError: FIELD_INVALID or FIELD_REQUIRED naming the argument.
        """
        properties: Mapping[str, Any] = self.parameters["properties"]
        accepted: Arguments = {
            name: rule["default"] for name, rule in properties.items() if "default" in rule
        }
        for given, value in arguments.items():
            name = self._name_of(given, arguments)
            accepted[name] = _as_list(value, properties.get(name, {}))
        self._check(accepted)
        return accepted

    def _name_of(self, given: str, arguments: Mapping[str, Any]) -> str:
        """The name of today, unless that is given as well or the old one is still one."""
        if given in self.parameters["properties"]:
            return given
        name = self.synonyms.get(given, given)
        return given if name in arguments else name

    def _check(self, arguments: Arguments) -> None:
        try:
            error = next(iter(self.schema.iter_errors(arguments)), None)
        except ValueError:  # bytes where the schema wants something that JSON has
            rule = "must be text in UTF-8"
            names = [name for name, value in arguments.items() if isinstance(value, bytes)]
            raise field_invalid(names[0] if names else "arguments", rule) from None
        if error is None:
            return
        path = ".".join(str(step) for step in error.instance_path)
        kind = error.kind
        if kind.name == "required":
            missing = ".".join(filter(None, (path, str(kind.property))))
            raise ServiceError(
                Reason.FIELD_REQUIRED, f"{missing} must be set.", field=missing, tool=self.name
            )
        field_name = path or "arguments"
        if kind.name == "additionalProperties":
            field_name = ".".join(filter(None, (path, str(kind.unexpected[0]))))
            rule = self._unknown(str(kind.unexpected[0]), within=path)
        else:
            rule = f"does not fit: {error.message[:MESSAGE_LENGTH_MAX]}"
        raise ServiceError(
            Reason.FIELD_INVALID,
            f"{field_name} {rule}" if rule.endswith("?") else f"{field_name} {rule}.",
            field=field_name,
            rule=rule,
            tool=self.name,
        )

    def _unknown(self, given: str, *, within: str) -> str:
        """What to say of a name that is none of a parameter's; the one that was probably meant."""
        if within:
            return f"is not known in {within} of {self.name}"
        known = list(self.parameters["properties"])
        near = difflib.get_close_matches(given[:100], known, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"is not a parameter of {self.name}; {meant}"


def _as_list(value: Any, rule: Mapping[str, Any]) -> Any:
    """An empty Lua table is a list and a map at once; the schema says which is meant."""
    if value == {} and isinstance(value, dict) and rule.get("type") == "array":
        return []
    return value
