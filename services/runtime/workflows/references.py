"""What the texts of a workflow refer to: `steps.fetch.output.files[0]`. Found, never executed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.common.errors import Reason, ServiceError

ROOTS = (
    "inputs", "steps", "shared", "loop_value", "loop_index", "iteration", "execution_id",
    "workflow",
)  # fmt: skip
"""What a reference may begin with."""
OLD_ROOTS = {"shared_data": "shared", "step_result": "steps"}
"""As workflows of before wrote them."""
STEP_FIELDS = ("output", "success", "status", "error", "attempts")
"""What is known of a step."""
PARTS_MAX = 32
_TOLD_MAX = 200
_NEAR_MAX = 3

_PART = re.compile(
    r"""\.\s*(?P<name>[^\s.\[\]{}"'()=<>!&|,~]+(?:[ ]+[^\s.\[\]{}"'()=<>!&|,~]+)*)"""
    r"""|\[\s*(?P<index>-?\d{1,9})\s*\]"""
    r"""|\[\s*"(?P<double>[^"\\]*)"\s*\]"""
    r"""|\[\s*'(?P<single>[^'\\]*)'\s*\]"""
)
_ROOT = re.compile(r"[A-Za-z_]+")


@dataclass(frozen=True, slots=True)
class Reference:
    """A path from a root into what a workflow knows."""

    text: str
    """As it was written."""
    root: str
    parts: tuple[str | int, ...]

    @property
    def step(self) -> str | None:
        """Name of the step that it reads; None where it reads none."""
        if self.root == "steps" and self.parts:
            return str(self.parts[0])
        return None


class Values(Protocol):
    """What references see; `scope.Scope` is one."""

    def root(self, name: str) -> Any:
        """The value of a root; `Mapping`s may be layered.

        Raises:
            KeyError: where it has none here, such as `loop_index` outside of loops.
        """


class ReferenceTextError(ValueError):
    """A text is no reference; its message says why, for people."""


def parse_reference(text: str) -> Reference:
    """The reference that a text is.

    Raises:
        ReferenceTextError: where it is none.
    """
    told = text.strip()
    begin = _ROOT.match(told)
    if begin is None:
        raise ReferenceTextError(f"{_short(told)} is no reference; one begins with {_roots()}")
    root = OLD_ROOTS.get(begin[0], begin[0])
    if root not in ROOTS:
        near = difflib.get_close_matches(root, ROOTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ReferenceTextError(f"{_short(told)} begins with none of {_roots()}{hint}")
    return Reference(told, root, _parts(told, begin.end()))


def _parts(text: str, at: int) -> tuple[str | int, ...]:
    found: list[str | int] = []
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or len(found) == PARTS_MAX:
            raise ReferenceTextError(f"{_short(text)} cannot be read from {_short(text[at:])} on")
        found.append(_part(part))
        at = part.end()
    return tuple(found)


def _part(part: re.Match[str]) -> str | int:
    if part["index"] is not None:
        return int(part["index"])
    named = (part["name"], part["double"], part["single"])
    return next(name for name in named if name is not None)


def find(reference: Reference, values: Values) -> Any:
    """What a reference stands for.

    Raises:
        ServiceError: WORKFLOW_REFERENCE_MISSING with the nearest names there are.
    """
    try:
        value = values.root(reference.root)
    except KeyError:
        raise missing(reference, reference.root, ()) from None
    walked = reference.root
    for part in reference.parts:
        try:
            value = _within(value, part)
        except (KeyError, IndexError, ValueError, TypeError):
            raise missing(reference, walked, names_in(value), part) from None
        walked = f"{walked}[{part}]" if isinstance(part, int) else f"{walked}.{part}"
    return value


def _within(value: Any, part: str | int) -> Any:
    if isinstance(value, Mapping):
        return value[str(part)]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return value[int(part)]
    raise TypeError(part)


def names_in(value: Any) -> Sequence[str]:
    """What there is within a value, for a message."""
    if isinstance(value, Mapping):
        return [str(key) for key in value]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [f"0 to {len(value) - 1}"] if value else []
    return []


def missing(
    reference: Reference, walked: str, known: Sequence[str], part: str | int | None = None
) -> ServiceError:
    """What is said of a reference to what is not there."""
    if part is None:
        why = f"there is no {walked} here"
    elif not known:
        why = f"there is nothing within {_short(walked)}"
    else:
        near = difflib.get_close_matches(str(part), known, n=_NEAR_MAX, cutoff=0.5) or known
        listed = ", ".join(_short(name, 64) for name in near[:_NEAR_MAX])
        why = f"{_short(walked)} has no {_short(str(part), 64)}; there is {listed}"
    return ServiceError(
        Reason.WORKFLOW_REFERENCE_MISSING,
        f"{{{{{_short(reference.text)}}}}} stands for nothing: {why}.",
        reference=_short(reference.text),
        known=", ".join(_short(name, 64) for name in list(known)[:20]),
    )


def _short(text: str, most: int = _TOLD_MAX) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _roots() -> str:
    return ", ".join(ROOTS)
