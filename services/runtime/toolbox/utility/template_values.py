"""Values as templates see them: maps and lists without the rest of Python.

MiniJinja looks up what a map does not hold among its attributes, so `{{ map.clear }}` would show a
method of Python, with its address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_METHODS = ("get", "items", "keys", "values")


class _Method:
    """A method that can be called, and shows as nothing."""

    __slots__ = ("_body",)

    def __init__(self, body: Callable[..., Any]) -> None:
        self._body = body

    def __call__(self, *given: Any) -> Any:
        answer = self._body(*given)
        return answer if answer is None or isinstance(answer, _PLAIN) else list(answer)

    def __str__(self) -> str:
        return ""

    __repr__ = __str__


class Map(dict[str, Any]):
    """A map; its public attributes are the methods that templates know."""

    def __getattribute__(self, name: str) -> Any:
        if name in _METHODS:
            return _Method(super().__getattribute__(name))
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise AttributeError(name)


class List(list[Any]):
    """A list without public attributes."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise AttributeError(name)


_PLAIN = (bool, int, float, str, bytes, Map, List)


def shown(value: Any) -> Any:
    """The value for a template, all that is inside it too."""
    if isinstance(value, dict):
        return Map((str(name), shown(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return List(shown(inner) for inner in value)
    return value
