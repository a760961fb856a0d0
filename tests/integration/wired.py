"""A deployment whose provider `wire` is a scripted server: each model there is what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.deployment import Deployment, deployed, free_port
from tests.models.openai_wire import no_such_model
from tests.models.scripted import Answering, Reply, Request, ScriptedServer

PRICES = """
[[prices]]
model = "wire/paid-*"
input_usd_per_million = 1000.0
output_usd_per_million = 10000.0
"""
"""A tenth of a cent a token read, a cent a token written."""

Behaviour = Callable[[Request], Any]


@dataclass
class Models:
    """The models of the server, by name."""

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    requests: dict[str, list[Request]] = field(default_factory=dict)

    def add(self, name: str, *answers: Reply | Answering) -> str:
        """A model that gives these answers one after the other, the last again and again."""
        left = list(answers)

        def behaviour(request: Request) -> Any:
            return left.pop(0) if len(left) > 1 else left[0]

        return self.behave(name, behaviour)

    def behave(self, name: str, behaviour: Behaviour) -> str:
        """A model whose answers are a function of the request; how it is asked for."""
        self.behaviours[name] = behaviour
        self.requests[name] = []
        return f"wire/{name}"

    def asked(self, name: str) -> Sequence[Request]:
        """What a model was asked."""
        return self.requests[name]

    def answer(self, request: Request) -> Reply:
        """What the model says that is asked for."""
        name = request.json["model"]
        if name not in self.behaviours:
            return no_such_model(name)
        self.requests[name].append(request)
        reply = self.behaviours[name](request)
        while callable(reply):
            reply = reply(request)
        return reply


@dataclass
class Wired:
    """What a test has."""

    up: Deployment
    models: Models
    server: ScriptedServer


@contextmanager
def wired(folder: Path, **variables: str) -> Iterator[Wired]:
    """Four processes and the server."""
    models = Models()
    with ScriptedServer(models.answer) as server:
        providers = folder / "providers.toml"
        providers.write_text(
            f'[wire]\nkind = "openai"\nbase_url = "{server.base_url}"\n'
            f'[down]\nkind = "openai"\nbase_url = "http://127.0.0.1:{free_port()}/v1"\n'
        )
        prices = folder / "prices.toml"
        prices.write_text(PRICES)
        names = {
            "LLMSPELL__PROVIDERS__FILE": str(providers),
            "LLMSPELL__RUNTIME__PRICES_FILE": str(prices),
        } | variables
        with deployed(folder, variables=names) as up:
            yield Wired(up, models, server)
