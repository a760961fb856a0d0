"""A part of a form and where it stands, so that what is wrong is named by its place. No I/O."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmspell.errors import InvalidArgument

NAME_LENGTH_MAX = 64


def invalid(place: str, rule: str) -> InvalidArgument:
    """The error of a form."""
    return InvalidArgument(f"{place} {rule}.", metadata={"field": place, "rule": rule})


@dataclass(frozen=True, slots=True)
class Place:
    """A value within a form."""

    value: Any
    path: str
    functions: dict[str, Callable[..., Any]]

    def form(self) -> Form:
        """It as a form."""
        return Form(self.value, self.path, self.functions)


class Form:
    """A mapping within a form."""

    def __init__(self, values: Any, path: str, functions: dict[str, Callable[..., Any]]) -> None:
        """`functions`: where those that stand in it are kept, by the name they are given."""
        if not isinstance(values, Mapping):
            raise invalid(path or "workflow", f"must be a mapping, not {type(values).__name__}")
        self.values = values
        self._path = path
        self._functions = functions

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def get(self, name: str, otherwise: Any = None) -> Any:
        """Its value of a name."""
        value = self.values.get(name)
        return otherwise if value is None else value

    def at(self, name: str) -> str:
        """Where that value stands."""
        return f"{self._path}.{name}" if self._path else name

    def flag(self, name: str) -> bool:
        """True or false; false where it is not set."""
        value = self.get(name, otherwise=False)
        if not isinstance(value, bool):
            raise invalid(self.at(name), "must be true or false")
        return value

    def inner(self, name: str) -> Place:
        """A value within it; it must be set."""
        if name not in self:
            raise invalid(self.at(name), "must be set")
        return Place(self.get(name), self.at(name), self._functions)

    def child(self, name: str, values: Any = None) -> Form:
        """A form within it."""
        found = self.get(name, {}) if values is None else values
        return Form(found, self.at(name), self._functions)

    def entries(self, name: str, listed: Any) -> Iterator[Place]:
        """The entries of a list within it."""
        if listed is None:
            raise invalid(self.at(name), "must be set")
        if not isinstance(listed, list | tuple):
            raise invalid(self.at(name), f"must be a list, not {type(listed).__name__}")
        for n, entry in enumerate(listed):
            yield Place(entry, f"{self.at(name)}[{n}]", self._functions)

    def function(self, name: str, hint: str) -> str:
        """Name of a function that stands in it, or that it names."""
        place = self.inner(name)
        return function_name(place, hint)

    def check(self, known: Iterable[str]) -> None:
        """Refuse names that mean nothing.

        Raises:
            InvalidArgument: naming the nearest known one.
        """
        names = sorted(known)
        for name in self.values:
            if name in names:
                continue
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise invalid(self.at(str(name)), f"is not known; {hint}")


def function_name(place: Place, hint: str) -> str:
    """Name of a function that stands there, or that is named there."""
    if isinstance(place.value, str):
        return place.value
    if not callable(place.value):
        raise invalid(place.path, "must be a function or the name of one")
    stem = hint[: NAME_LENGTH_MAX - 4] or "function"
    name, number = stem, 1
    while name in place.functions:
        number += 1
        name = f"{stem}_{number}"
    place.functions[name] = place.value
    return name


def first(form: Form, *names: str) -> str | None:
    """The first of the names that is set."""
    return next((name for name in names if name in form), None)


def text(form: Form, name: str, *, required: bool = False) -> str:
    """Text; empty where it is not set."""
    value = form.get(name, "")
    if not isinstance(value, str):
        raise invalid(form.at(name), f"must be text, not {type(value).__name__}")
    if required and not value:
        raise invalid(form.at(name), "must be set")
    return value


def number(form: Form, name: str) -> float:
    """A number of at least 0; 0 where it is not set."""
    value = form.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise invalid(form.at(name), "must be a number of at least 0")
    return float(value)


def whole(form: Form, name: str, *, signed: bool = False, required: bool = False) -> int:
    """A whole number; 0 where it is not set."""
    if required and name not in form:
        raise invalid(form.at(name), "must be set")
    value = form.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or (value < 0 and not signed):
        raise invalid(form.at(name), f"must be a whole number{'' if signed else ' of at least 0'}")
    return value
