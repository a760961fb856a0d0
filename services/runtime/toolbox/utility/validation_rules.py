"""The rules of data-validator."""

from __future__ import annotations

import ipaddress
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from services.runtime.toolbox import patterns
from services.runtime.toolbox.model import ToolError, field_invalid, field_required, limit_exceeded
from services.runtime.toolbox.utility import time_format

ERRORS_MAX = 1_000
RULES_MAX = 1_000
DEPTH_MAX = 16
VALUE_LENGTH_MAX = 500
VALUE_ENTRIES_MAX = 20

PARAMETERS: dict[str, tuple[str, ...]] = {
    "required": (),
    "type": ("expected",),
    "length": ("min", "max"),
    "range": ("min", "max"),
    "pattern": ("regex",),
    "enum": ("values",),
    "email": (),
    "url": (),
    "date": ("format",),
    "custom": ("name",),
    "array": ("min_items", "max_items", "unique", "item_rules"),
    "object": ("properties", "required", "additional_properties"),
}
"""What each type of rule may have."""
_NEEDED = {"type": "expected", "pattern": "regex", "enum": "values", "custom": "name"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list) or value == {},
    "object": lambda value: isinstance(value, dict) or value == [],
    "null": lambda value: value is None,
}
"""An empty table of Lua is a list and a map at once."""

_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@"
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+"
)
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def _matches(expression: str) -> Callable[[str], bool]:
    known = re.compile(expression)
    return lambda text: known.fullmatch(text) is not None


def _is_address(version: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == version
        except ValueError:
            return False

    return check


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_card_number(text: str) -> bool:
    """Thirteen to nineteen digits whose Luhn sum is right."""
    digits = re.sub(r"[ -]", "", text)
    if not re.fullmatch(r"[0-9]{13,19}", digits):
        return False
    doubled = (int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits)))
    return sum(number // 10 + number % 10 for number in doubled) % 10 == 0


CUSTOM: dict[str, Callable[[str], bool]] = {
    "alpha": str.isalpha,
    "alphanumeric": str.isalnum,
    "ascii": str.isascii,
    "credit_card": _is_card_number,
    "hex_color": _matches("#(?:[0-9A-Fa-f]{3}){1,2}"),
    "hostname": lambda text: _HOST.fullmatch(text) is not None,
    "ipv4": _is_address(4),
    "ipv6": _is_address(6),
    "json": _is_json,
    "lowercase": lambda text: text == text.lower(),
    "not_blank": lambda text: bool(text.strip()),
    "phone": _matches(r"\+?[0-9][0-9 ().-]{5,18}[0-9]"),
    "semver": _matches(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-[0-9A-Za-z.-]+)?(?:\+[\w.-]+)?"),
    "slug": _matches("[a-z0-9]+(?:-[a-z0-9]+)*"),
    "uppercase": lambda text: text == text.upper(),
    "uuid": _matches(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that has been read."""

    kind: str
    given: Mapping[str, Any]
    parts: Mapping[str, Any]
    """What it is made of: expressions, rules of items and of properties."""


def listed(given: Any, *, field: str, depth: int = 0) -> list[Rule]:
    """The rules of a list, or of an object that has one under `rules`.

    Raises:
        ToolError: FIELD_INVALID naming the rule, LIMIT_EXCEEDED.
    """
    if depth > DEPTH_MAX:
        raise limit_exceeded(field, depth, DEPTH_MAX, "rules inside each other")
    rules = given.get("rules", given) if isinstance(given, dict) else given
    if isinstance(rules, dict):
        # One rule, or an empty table.
        rules = [rules] if rules else []
    if not isinstance(rules, list):
        raise field_invalid(field, "must be a list of rules")
    if len(rules) > RULES_MAX:
        raise limit_exceeded(field, len(rules), RULES_MAX, "rules")
    return [_rule(rule, f"{field}[{at}]", depth) for at, rule in enumerate(rules)]


def _rule(given: Any, field: str, depth: int) -> Rule:
    if isinstance(given, str):
        given = {"type": given}
    kind = given.get("type") if isinstance(given, dict) else None
    if kind not in PARAMETERS:
        raise field_invalid(f"{field}.type", f"must be one of {', '.join(PARAMETERS)}")
    for name in given:
        if name not in (*PARAMETERS[kind], "type", "message"):
            raise field_invalid(f"{field}.{name}", f"is no part of a rule of type {kind}")
    needed = _NEEDED.get(kind)
    if needed and needed not in given:
        raise field_required(f"{field}.{needed}")
    return Rule(kind, given, _parts(kind, given, field, depth))


def _parts(kind: str, given: Mapping[str, Any], field: str, depth: int) -> dict[str, Any]:
    match kind:
        case "pattern":
            return {"regex": patterns.compiled(str(given["regex"]), field=f"{field}.regex")}
        case "type" if given["expected"] not in _TYPES:
            raise field_invalid(f"{field}.expected", f"must be one of {', '.join(_TYPES)}")
        case "custom" if given["name"] not in CUSTOM:
            raise field_invalid(f"{field}.name", f"must be one of {', '.join(CUSTOM)}")
        case "enum" if not isinstance(given["values"], list):
            raise field_invalid(f"{field}.values", "must be a list")
        case "array" if given.get("item_rules"):
            return {
                "items": listed(given["item_rules"], field=f"{field}.item_rules", depth=depth + 1)
            }
        case "object":
            return {
                "properties": {
                    name: listed(rules, field=f"{field}.properties.{name}", depth=depth + 1)
                    for name, rules in (given.get("properties") or {}).items()
                }
            }
    return {}


def check(value: Any, rules: list[Rule]) -> list[dict[str, Any]]:
    """What is broken, in order; at most `ERRORS_MAX`."""
    errors: list[dict[str, Any]] = []
    for error in _faults(value, rules, ""):
        errors.append(error)
        if len(errors) == ERRORS_MAX:
            break
    return errors


def _faults(value: Any, rules: list[Rule], place: str) -> Iterator[dict[str, Any]]:
    for rule in rules:
        if value is None and rule.kind not in ("required", "type"):
            continue
        for inner_place, inner, words in _CHECKS[rule.kind](value, rule):
            if isinstance(words, dict):  # a fault of a rule further in
                yield {**words, "field": _joined(place, words["field"])}
                continue
            yield {
                "field": _joined(place, inner_place) or "input",
                "value": _shown(inner),
                "rule": rule.kind,
                "message": str(rule.given.get("message", words)),
            }


def _shown(value: Any) -> Any:
    """The value, but of a long text its beginning and of a large thing nothing."""
    if isinstance(value, str):
        return value[:VALUE_LENGTH_MAX]
    if isinstance(value, list | dict) and len(value) > VALUE_ENTRIES_MAX:
        return None
    return value


def _joined(outer: str, inner: str) -> str:
    return outer + inner if inner.startswith("[") or not outer else f"{outer}.{inner}".rstrip(".")


_Fault = tuple[str, Any, Any]


def _plain(test: Callable[[Any, Rule], str | None]) -> Callable[[Any, Rule], Iterator[_Fault]]:
    """A check that looks at the value itself, as one that tells of places."""

    def check_one(value: Any, rule: Rule) -> Iterator[_Fault]:
        words = test(value, rule)
        if words:
            yield "", value, words

    return check_one


def _required(value: Any, _: Rule) -> str | None:
    return "is required" if value is None or value == "" else None


def _type(value: Any, rule: Rule) -> str | None:
    expected = rule.given["expected"]
    return None if _TYPES[expected](value) else f"must be of type {expected}"


def _length(value: Any, rule: Rule) -> str | None:
    if not isinstance(value, str | list):
        return None
    return _between(len(value), rule, "length")


def _range(value: Any, rule: Rule) -> str | None:
    return _between(value, rule, "value") if _is_number(value) else None


def _between(number: float, rule: Rule, what: str) -> str | None:
    least, most = rule.given.get("min"), rule.given.get("max")
    if least is not None and number < least:
        return f"{what} is {number}, and must be at least {least}"
    if most is not None and number > most:
        return f"{what} is {number}, and must be at most {most}"
    return None


def _pattern(value: Any, rule: Rule) -> str | None:
    if not isinstance(value, str) or rule.parts["regex"].search(value):
        return None
    return f"does not match {rule.given['regex']}"


def _enum(value: Any, rule: Rule) -> str | None:
    known = rule.given["values"]
    same = (one == value and isinstance(one, bool) == isinstance(value, bool) for one in known)
    return None if any(same) else f"must be one of {json.dumps(known, ensure_ascii=False)[:500]}"


def _text(is_right: Callable[[str], bool], words: str) -> Callable[[Any, Rule], str | None]:
    def test(value: Any, _: Rule) -> str | None:
        return None if isinstance(value, str) and is_right(value) else words

    return test


def _is_url(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    blank = any(sign <= " " for sign in text)
    return parts.scheme in {"http", "https", "ftp", "ws", "wss"} and bool(host) and not blank


def _date(value: Any, rule: Rule) -> str | None:
    pattern = rule.given.get("format", "%Y-%m-%d")
    if not isinstance(value, str):
        return f"must be a date written as {pattern}"
    try:
        time_format.read(value, pattern, UTC)
    except ToolError as error:
        if error.metadata.get("field") == "format":
            raise
        return f"must be a date written as {pattern}"
    return None


def _custom(value: Any, rule: Rule) -> str | None:
    name = rule.given["name"]
    return None if isinstance(value, str) and CUSTOM[name](value) else f"is no {name}"


def _array(value: Any, rule: Rule) -> Iterator[_Fault]:
    if value == {}:
        value = []
    if not isinstance(value, list):
        yield "", value, "must be an array"
        return
    bounds = {"min": rule.given.get("min_items"), "max": rule.given.get("max_items")}
    words = _between(len(value), Rule("array", bounds, {}), "number of items")
    if words:
        yield "", value, words
    if rule.given.get("unique"):
        yield from _repeated(value)
    for at, item in enumerate(value):
        for fault in _faults(item, rule.parts.get("items", []), ""):
            yield "", None, _placed(fault, f"[{at}]")


def _repeated(value: list[Any]) -> Iterator[_Fault]:
    seen: set[str] = set()
    for at, item in enumerate(value):
        written = json.dumps(item, sort_keys=True)
        if written in seen:
            yield f"[{at}]", item, "is there twice"
        seen.add(written)


def _object(value: Any, rule: Rule) -> Iterator[_Fault]:
    if value == []:
        value = {}
    if not isinstance(value, dict):
        yield "", value, "must be an object"
        return
    for name in rule.given.get("required") or ():
        if value.get(name) is None:
            yield str(name), None, "is required"
    properties = rule.parts["properties"]
    if rule.given.get("additional_properties") is False:
        for name in value.keys() - properties.keys():
            yield name, value[name], "is not among the properties"
    for name, rules in properties.items():
        for fault in _faults(value.get(name), rules, ""):
            yield "", None, _placed(fault, name)


def _placed(fault: dict[str, Any], place: str) -> dict[str, Any]:
    inner = "" if fault["field"] == "input" else fault["field"]
    return {**fault, "field": _joined(place, inner) if inner else place}


_CHECKS: dict[str, Callable[[Any, Rule], Iterator[_Fault]]] = {
    "required": _plain(_required),
    "type": _plain(_type),
    "length": _plain(_length),
    "range": _plain(_range),
    "pattern": _plain(_pattern),
    "enum": _plain(_enum),
    "email": _plain(_text(lambda text: bool(_EMAIL.fullmatch(text)), "must be an e-mail address")),
    "url": _plain(_text(_is_url, "must be a URL with scheme and host")),
    "date": _plain(_date),
    "custom": _plain(_custom),
    "array": _array,
    "object": _object,
}
