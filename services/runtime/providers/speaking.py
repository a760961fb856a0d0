"""Speaking to a server of chat models: what both protocols have in common.

The openai and the anthropic package make requests and keep connections, in the same way, since one
generator wrote both. Retries, limits, keys and the reading of answers are our own: servers differ
more than the packages expect.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2

from services.common.errors import Reason, ServiceError
from services.common.limits import (
    PROVIDER_CONNECT_SECONDS_MAX,
    PROVIDER_LIST_SECONDS_MAX,
    PROVIDER_PIECES_MAX,
)
from services.runtime.providers import failures, listing
from services.runtime.providers.asking import Lack, ToolNames
from services.runtime.providers.failures import AttemptError
from services.runtime.providers.model import (
    Capabilities,
    ChatAnswer,
    ChatRequest,
    Hears,
    ModelFacts,
)
from services.runtime.providers.retry import Tries
from services.runtime.providers.sse import events

_LACKS_MAX = 1000
"""Models of which it is remembered what their server does not take."""
_DRAIN_S = 0.1
"""How long the end of a stream is waited for, so that its connection can be used again."""


class Coming(Protocol):
    """An answer that comes."""

    finish: str
    """As the server says it; empty: it has not."""
    model: str
    is_one: bool
    """Whether what came is an answer at all."""

    @property
    def began(self) -> bool:
        """Whether anything of it has come."""

    def take(self, chunk: Mapping[str, Any]) -> str:
        """Take a piece, or all of it; the text that is new."""

    def tokens(self, request: ChatRequest) -> int:
        """What it has taken so far."""

    def answer(self, request: ChatRequest, *, attempts: int) -> ChatAnswer:
        """All of it."""


class Dialect(Protocol):
    """A protocol of chats."""

    path: str
    """Where it is asked."""
    models_path: str
    """Where it tells of its models."""

    def body(
        self, request: ChatRequest, names: ToolNames, *, streams: bool, lacks: Iterable[Lack]
    ) -> dict[str, Any]:
        """The JSON of a request."""

    def coming(self, request: ChatRequest, names: ToolNames) -> Coming:
        """What reads its answer."""

    def is_end(self, data: str) -> bool:
        """Whether an event of a stream is its last."""

    def lack(self, body: Mapping[str, Any], failure: AttemptError) -> frozenset[Lack]:
        """What the server did not take, as far as its refusal tells."""

    def is_for_good(self, failure: AttemptError) -> bool:
        """Whether it never does, and not only not this time."""


@dataclass(frozen=True, slots=True)
class Sdk:
    """A package, as far as it is used here."""

    client: Any
    stream: type[Any]
    status_error: type[Any]
    timeout_error: type[Exception]
    connection_error: type[Exception]
    error: type[Exception]


class Speaker:
    """One server, with one key."""

    def __init__(
        self,
        name: str,
        sdk: Sdk,
        dialect: Dialect,
        *,
        key: str = "",
        capabilities: Capabilities | None = None,
        lacks: Sequence[Lack] = (),
    ) -> None:
        """Connect to nothing yet.

        Args:
            name: As before the slash of a model.
            sdk: Makes requests.
            dialect: The protocol.
            key: That the transport puts on, to be taken out of what is told.
            capabilities: What it can.
            lacks: What it is known not to take.
        """
        self.name = name
        self.capabilities = capabilities or Capabilities()
        self.calls = 0
        """Calls under way."""
        self._sdk = sdk
        self._dialect = dialect
        self._key = key
        self._known_lacks = frozenset(lacks)
        self._lacks: dict[str, frozenset[Lack]] = {}

    async def chat(self, request: ChatRequest, *, hears: Hears | None = None) -> ChatAnswer:
        """Ask a model; see `ChatProvider`."""
        tries = Tries(self.name, request.timeout_s)
        with self.under_way():
            return await tries.run(lambda: self._attempt(request, hears, tries), hears)

    async def models(self) -> Sequence[ModelFacts]:
        """Models that the server tells of, in order of name."""
        tries = Tries(self.name, PROVIDER_LIST_SECONDS_MAX, attempts_max=2)
        with self.under_way():
            return listing.models(await tries.run(lambda: self.get(self._dialect.models_path)))

    async def close(self) -> None:
        """Let connections go."""
        await self._sdk.client.close()

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """A call, for as long as the block lasts."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    async def get(self, path: str, *, timeout_s: float = PROVIDER_LIST_SECONDS_MAX) -> Any:
        """The JSON at a path below the base address, or at an address.

        Raises:
            AttemptError: There is none.
            ServiceError: PROVIDER_ANSWER_LIMIT, ADDRESS_REFUSED.
        """
        with self.failing():
            response = await self._sdk.client.get(
                path, cast_to=httpx2.Response, options={"timeout": _timeout(timeout_s)}
            )
            return self._json(response.content)

    @contextlib.asynccontextmanager
    async def post(
        self, path: str, body: Mapping[str, Any], *, timeout_s: float, model: str = ""
    ) -> AsyncIterator[httpx2.Response]:
        """An answer whose bytes have not been read; its connection is closed if they never are.

        Raises:
            AttemptError: There is none.
            ServiceError: PROVIDER_ANSWER_LIMIT, ADDRESS_REFUSED.
        """
        with self.failing(model):
            response: httpx2.Response = await self._sdk.client.post(
                path,
                body=body,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=self._sdk.stream,
                options={"timeout": _timeout(timeout_s)},
            )
            try:
                yield response
            finally:
                await response.aclose()

    @contextlib.contextmanager
    def failing(self, model: str = "") -> Iterator[None]:
        """Turn what packages raise into an `AttemptError`."""
        try:
            yield
        except self._sdk.status_error as error:
            raise self._refused(error, model) from None
        except (self._sdk.timeout_error, httpx2.TimeoutException):
            raise failures.unreachable(self.name, "does not answer in time") from None
        except (self._sdk.connection_error, httpx2.TransportError):
            raise failures.unreachable(self.name) from None
        except (self._sdk.error, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise failures.not_of_protocol(self.name, type(error).__name__) from None
        except ServiceError as error:
            if error.reason != Reason.HOST_UNREACHABLE:
                raise
            raise failures.unreachable(self.name) from None

    def _refused(self, error: Any, model: str) -> AttemptError:
        return failures.of_status(
            self.name,
            error.status_code,
            error.body if error.body is not None else error.response.text,
            error.response.headers,
            model=model,
            key=self._key,
        )

    async def _attempt(self, request: ChatRequest, hears: Hears | None, tries: Tries) -> ChatAnswer:
        """Ask, without what the server turns out not to take."""
        names = ToolNames.of(request)
        lacks = self._known_lacks | self._lacks.get(request.model, frozenset())
        # llama.cpp notices that nobody waits any more only while it streams.
        streams = hears is not None or self.capabilities.local
        while True:
            body = self._dialect.body(request, names, streams=streams, lacks=lacks)
            try:
                answer = await self._ask(request, body, names, hears)
            except AttemptError as failure:
                lack = self._dialect.lack(body, failure) - lacks
                if not lack:
                    raise
                lacks |= lack
                if self._dialect.is_for_good(failure):
                    self._remember(request.model, lacks)
            else:
                return answer.answer(request, attempts=tries.count)

    def _remember(self, model: str, lacks: frozenset[Lack]) -> None:
        if len(self._lacks) >= _LACKS_MAX:
            self._lacks.clear()
        self._lacks[model] = lacks

    async def _ask(
        self, request: ChatRequest, body: Mapping[str, Any], names: ToolNames, hears: Hears | None
    ) -> Coming:
        answer = self._dialect.coming(request, names)
        try:
            path, timeout_s = self._dialect.path, request.timeout_s
            async with self.post(path, body, timeout_s=timeout_s, model=request.model) as response:
                await self._read(response, answer, hears)
        except AttemptError as failure:
            if answer.finish and failure.transient:
                return answer  # it was said to the end; only its usage did not come
            if answer.began:
                failure.tokens = answer.tokens(request)
            raise
        except ServiceError as error:
            if answer.began:
                error.metadata["tokens"] = str(answer.tokens(request))
            raise
        return answer

    async def _read(self, response: httpx2.Response, answer: Coming, hears: Hears | None) -> None:
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        if not streams:  # also where it was asked to, but does not
            text = self._take(self._json(await response.aread()), answer)
            if hears is not None and text:
                hears.text(text)
        elif not await self._read_events(response.aiter_bytes(), answer, hears):
            raise failures.unreachable(self.name, "broke off its answer")
        if not answer.is_one:
            raise failures.not_of_protocol(self.name, "no answer is in it")

    async def _read_events(
        self, pieces: AsyncIterator[bytes], answer: Coming, hears: Hears | None
    ) -> bool:
        """Whether the answer came to its end."""
        count = 0
        async with contextlib.aclosing(events(pieces)) as coming:
            async for data in coming:
                if self._dialect.is_end(data):
                    await _drain(coming)
                    return True
                count += 1
                if count > PROVIDER_PIECES_MAX:
                    raise failures.too_large(self.name, PROVIDER_PIECES_MAX, "pieces")
                text = self._take(self._json(data), answer)
                if text and hears is not None:
                    hears.text(text)
        return bool(answer.finish)

    def _take(self, chunk: Any, answer: Coming) -> str:
        if not isinstance(chunk, Mapping):
            raise failures.not_of_protocol(self.name, "a piece is no object")
        if chunk.get("error"):
            raise failures.within_answer(self.name, chunk, model=answer.model, key=self._key)
        return answer.take(chunk)

    def _json(self, text: str | bytes) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise failures.not_of_protocol(self.name, "it is not JSON") from None


async def _drain(coming: AsyncIterator[str]) -> None:
    """Read what is behind the end: nothing, mostly."""
    with contextlib.suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in coming:
                pass


def _timeout(timeout_s: float) -> httpx2.Timeout:
    return httpx2.Timeout(timeout_s, connect=min(timeout_s, PROVIDER_CONNECT_SECONDS_MAX))
