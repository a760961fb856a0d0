"""Any server that speaks OpenAI's chat protocol, by the openai package.

Importing it takes half a second: `registry` does so when the first such provider is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx2
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AsyncStream,
    OpenAIError,
)

from services.common.errors import Reason
from services.runtime.providers.answering import Answer
from services.runtime.providers.asking import Lack, ToolNames, chat_body
from services.runtime.providers.failures import AttemptError
from services.runtime.providers.model import Capabilities, ChatRequest
from services.runtime.providers.speaking import Sdk, Speaker
from services.runtime.providers.sse import DONE
from services.runtime.providers.transport import Transport

_FOR_GOOD = re.compile(r"support|unknown|unrecogni|not permitted|extra|unavailable", re.IGNORECASE)
_OF_A_FORMAT = re.compile(r"response_format|json_|schema|structured|grammar")


class OpenAIDialect:
    """OpenAI's chat completions."""

    path = "/chat/completions"
    models_path = "/models"

    def body(
        self, request: ChatRequest, names: ToolNames, *, streams: bool, lacks: Iterable[Lack]
    ) -> dict[str, Any]:
        """The JSON of a request."""
        return chat_body(request, names, streams=streams, lacks=lacks)

    def coming(self, request: ChatRequest, names: ToolNames) -> Answer:
        """What reads its answer."""
        del request
        return Answer(names)

    def is_end(self, data: str) -> bool:
        """`[DONE]`."""
        return data.startswith(DONE)

    def lack(self, body: Mapping[str, Any], failure: AttemptError) -> frozenset[Lack]:
        """What the server did not take, as far as its refusal tells."""
        if failure.error.reason != Reason.PROVIDER_REFUSED:
            return frozenset()
        said = failure.error.message.lower()
        if "stream_options" in body and "stream_options" in said:
            return frozenset({Lack.STREAM_OPTIONS})
        if "max_tokens" in body and "max_completion_tokens" in said:
            return frozenset({Lack.MAX_TOKENS})
        kind = body.get("response_format", {}).get("type", "")
        if kind and _OF_A_FORMAT.search(said):
            return frozenset({Lack.JSON_SCHEMA if kind == "json_schema" else Lack.JSON_OBJECT})
        return frozenset()

    def is_for_good(self, failure: AttemptError) -> bool:
        """Whether the server never takes it."""
        return _FOR_GOOD.search(failure.error.message) is not None


class OpenAIProvider(Speaker):
    """One server, with one key."""

    def __init__(
        self,
        name: str,
        base_url: str,
        transport: Transport,
        *,
        key: str = "",
        capabilities: Capabilities | None = None,
        lacks: Sequence[Lack] = (),
    ) -> None:
        """Connect to nothing yet; see `Speaker`."""
        sdk = Sdk(
            AsyncOpenAI(
                api_key="none",  # the transport puts it on
                base_url=base_url,
                max_retries=0,
                http_client=httpx2.AsyncClient(transport=transport, trust_env=False),
            ),
            AsyncStream,
            APIStatusError,
            APITimeoutError,
            APIConnectionError,
            OpenAIError,
        )
        super().__init__(
            name, sdk, OpenAIDialect(), key=key, capabilities=capabilities, lacks=lacks
        )
        self.base_url = base_url
