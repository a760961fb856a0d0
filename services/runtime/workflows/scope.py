"""What a step sees: inputs, steps before it, shared data, and the loop that it is in."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from services.common.errors import limit_exceeded
from services.common.limits import WORKFLOW_SHARED_BYTES_MAX
from services.runtime.workflows.interpolate import size_of
from services.runtime.workflows.results import StepResult

_LOOP = ("loop_value", "loop_index", "iteration")


class Scope:
    """Of one list of steps; those around it are seen through it, as in a programming language."""

    def __init__(
        self,
        *,
        inputs: Mapping[str, Any] | None = None,
        shared: dict[str, Any] | None = None,
        around: Scope | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Begin one.

        Args:
            inputs: Of the workflow; None: those around.
            shared: Its own shared data; None: that around, the very same.
            around: What is seen where this has nothing; None: nothing.
            facts: `execution_id` and `workflow`.
        """
        self.steps: dict[str, StepResult] = {}
        self.last: StepResult | None = around.last if around is not None else None
        """The step that ended last, for one that is given its output unasked."""
        self.room: _Room = around.room if around is not None and shared is None else _Room()
        self.inputs: MutableMapping[str, Any] = dict(inputs or {})
        self.layers: MutableMapping[str, Any] = shared if shared is not None else {}
        self.facts: Mapping[str, str] = facts or (around.facts if around else {})
        self.all_steps: ChainMap[str, StepResult] = ChainMap(self.steps)
        if around is not None:
            self.inputs = ChainMap(self.inputs, around.inputs)
            self.all_steps = ChainMap(self.steps, *around.all_steps.maps)
            is_own = shared is not None
            self.layers = ChainMap(self.layers, around.layers) if is_own else around.layers

    def beside(self) -> Scope:
        """For a branch: it sees what this one sees, and shares with it; its steps are its own."""
        return Scope(around=self)

    def root(self, name: str) -> Any:
        """What a reference begins with.

        Raises:
            KeyError: where there is nothing of the name here.
        """
        match name:
            case "inputs":
                return self.inputs
            case "steps":
                return _Told(self.all_steps)
            case "shared":
                return self.layers
            case _ if name in _LOOP:
                return self.layers[name]
        return self.facts[name]

    @property
    def shared(self) -> Mapping[str, Any]:
        """Shared data as it is seen here."""
        return self.layers

    def share(self, values: Mapping[str, Any]) -> None:
        """Put values into shared data.

        Raises:
            ServiceError: LIMIT_EXCEEDED where it would be too large.
        """
        if not values:
            return
        self.layers.update(values)
        self.room.take(values, self.layers)

    def result(self, step: str) -> StepResult | None:
        """What came of a step; None where it has not ended."""
        return self.all_steps.get(step)

    def ended(self, result: StepResult) -> None:
        """A step has ended."""
        self.steps[result.name] = result
        self.last = result


class _Room:
    """How much is in shared data, without counting all of it each time."""

    def __init__(self) -> None:
        self._added = 0

    def take(self, values: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
        """Values were put in.

        Raises:
            ServiceError: LIMIT_EXCEEDED where there is too much.
        """
        self._added += size_of(values, most=WORKFLOW_SHARED_BYTES_MAX)
        if self._added <= WORKFLOW_SHARED_BYTES_MAX // 2:
            return
        size = size_of(whole, most=WORKFLOW_SHARED_BYTES_MAX)
        if size > WORKFLOW_SHARED_BYTES_MAX:
            raise limit_exceeded("shared data", size, WORKFLOW_SHARED_BYTES_MAX, "bytes")
        self._added = size // 2  # what fits before it is counted again


class _Told(Mapping[str, Any]):
    """Steps as references see them."""

    def __init__(self, steps: Mapping[str, StepResult]) -> None:
        self._steps = steps

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        return self._steps[name].told()

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)
