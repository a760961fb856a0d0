"""What tests of workflows share: workflows written as plain trees, and actions that are told."""

import asyncio
import itertools
from dataclasses import replace

from llmspell.v1 import workflow_pb2

from services.common.clock import SystemClock
from services.common.errors import Reason, ServiceError
from services.runtime import marshal
from services.runtime.workflows.engine import Engine
from services.runtime.workflows.model import FunctionAction
from services.runtime.workflows.reading import read_workflow
from services.runtime.workflows.results import Status, StepResult
from services.runtime.workflows.stepping import Acted, Repeat, Steps


def message(tree):
    """A workflow of the contract from a plain tree."""
    made = workflow_pb2.Workflow()
    marshal.fill(made, {"name": "w", **tree})
    return made


def workflow(tree):
    """Its model."""
    return read_workflow(message(tree))


def call(name, function="echo", /, **more):
    """A step that calls a function; what is not an option of a step is its argument."""
    options = {key: more.pop(key) for key in list(more) if key in OPTIONS}
    return {"name": name, "function": {"function": function, "arguments": more}, **options}


OPTIONS = {"condition", "retry", "on_error", "timeout", "compensation", "save_as"}


def row(*steps, **more):
    """A sequential workflow."""
    return {"sequential": {"steps": list(steps)}, **more}


class Told:
    """Does what functions of a test do, and remembers what was asked."""

    def __init__(self, **functions):
        self.functions = functions
        self.asked = []
        self.repeats = {}
        self.names = itertools.count(1)

    async def act(self, order):
        assert isinstance(order.step.action, FunctionAction)
        self.asked.append((order.path, dict(order.arguments)))
        function = self.functions.get(order.step.action.function, echo)
        made = function(**order.arguments)
        made = await made if asyncio.iscoroutine(made) else made
        return made if isinstance(made, Acted) else Acted(made)

    def repeat(self, order):
        return self.repeats.get(order.step.action.function, Repeat.HARMLESS)

    def new_receipt(self, order):
        return f"m.{next(self.names)}"

    async def classify(self, condition, text, path):
        self.asked.append((path, text))
        return Acted(self.functions["classify"](text) == condition.expected)

    async def ask(self, function, scope, path):
        self.asked.append((path, dict(scope.shared)))
        return Acted(self.functions[function](dict(scope.shared)))

    @property
    def paths(self):
        return [path for path, _ in self.asked]


def echo(**given):
    return given


def failing(text="no"):
    def fail(**given):
        raise ServiceError(Reason.TOOL_FAILED, text)

    return fail


class Kept:
    """A journal in memory; `lost` makes one as another process finds it."""

    def __init__(self):
        self.results = {}
        self.written = {}
        self.were_begun = {}
        self.receipts = {}
        self.unsafe = []
        self.order = []

    def ended(self, path):
        return self.results.get(path)

    def begun(self, path):
        at = self.were_begun.get(path)
        if at is None:
            return None
        receipt = self.receipts.get(path, "")
        return StepResult(
            path, path, "tool", Status.RUNNING, start_ns=at, attempts=1, receipt=receipt
        )

    async def begin(self, result):
        self.order.append(("begin", result.path))
        self.receipts[result.path] = result.receipt
        self.were_begun.pop(result.path, None)
        self.unsafe.clear()

    def keep(self, result):
        self.order.append(("keep", result.path))
        self.results[result.path] = self.written[result.path] = result
        self.unsafe.append(result.path)

    def forget_memos(self, prefix):
        for path in [path for path in self.results if path.startswith(prefix)]:
            del self.results[path]

    def forget_failures(self, prefix):
        for path, result in list(self.results.items()):
            if path.startswith(prefix) and not result.success:
                del self.results[path]

    def lost(self):
        """What is left where the process is killed now, the begun ones among it."""
        other = Kept()
        safe = {path: one for path, one in self.written.items() if path not in self.unsafe}
        other.results, other.written = dict(safe), safe
        now = SystemClock().now_ns()
        begun = [path for kind, path in self.order if kind == "begin"]
        other.receipts = dict(self.receipts)
        other.were_begun = {
            path: at
            for path, at in (dict.fromkeys(begun, now) | self.were_begun).items()
            if path not in other.results
        }
        return other


class Heard:
    """Is told what happens."""

    def __init__(self):
        self.started, self.ended, self.changed, self.undone = [], [], [], []

    def step_started(self, result):
        self.started.append(result.path)

    def step_ended(self, result):
        self.ended.append((result.path, result.status.value))

    def shared(self, path, values):
        self.changed.append((path, dict(values)))

    async def rolling_back(self, workflow, path, steps):
        self.undone += steps


class NoneRegistered(dict):
    async def workflow(self, name):
        if name not in self:
            raise ServiceError(Reason.WORKFLOW_NOT_FOUND, f"There is no workflow {name!r}.")
        return self[name]


async def run(tree, told=None, *, inputs=None, kept=None, heard=None, registered=()):
    """The result of a workflow that is a plain tree."""
    spec = tree if not isinstance(tree, dict) else workflow(tree)
    steps = Steps(told or Told(), kept or Kept(), heard or Heard(), SystemClock())
    known = NoneRegistered({name: workflow(one) for name, one in dict(registered).items()})
    engine = Engine(steps, known, "exec_1")
    return await engine.run(spec, inputs or {})


def nested(name, definition, **more):
    """A step that runs a workflow described within."""
    inputs = more.pop("inputs", {})
    inner = {"name": name, **definition}
    return {"name": name, "workflow": {"definition": inner, "inputs": inputs}, **more}


def without_times(result):
    return replace(result, start_ns=0, end_ns=0)
