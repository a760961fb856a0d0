"""The provider `scripted`: answers that are written down, for tests and examples without a model.

`scripted/NAME` plays NAME.json of the operator's folder, `scripted/echo` says back what it is told,
and `scripted/inline` plays the script that is given as the base URL, `data:application/json,{…}`.
Answers depend on the conversation alone, so that the same one always goes the same way.

A script is `{"replies": […]}`. A reply has `text`, `tools` (a list of `name` and `arguments`), or
`error`, the name of a reason; `when` is text that the user's last message must have; `wait_s` is
how long it takes. Replies with a `when` that fits go before those without. Of those that remain the
one is played whose number is how many answers were given already: since the user's last message for
those with a `when`, in the whole conversation for the others. The last one is played again and
again. `{{input}}` is the user's last message, `{{result}}` what the last tool answered,
`{{result.a.b}}` a part of it where it is JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid, reason_named
from services.common.limits import PROVIDER_SCRIPT_BYTES_MAX
from services.runtime.providers.answering import estimated_usage
from services.runtime.providers.model import (
    Capabilities,
    ChatAnswer,
    ChatRequest,
    Finish,
    Hears,
    ModelFacts,
    Role,
    ToolUse,
    Usage,
)

ECHO = "echo"
INLINE = "inline"
_INLINE = "data:application/json,"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PLACEHOLDER = re.compile(r"\{\{\s*(input|result)((?:\.[A-Za-z0-9_-]+)*)\s*\}\}")
_WAIT_SECONDS_MAX = 60.0


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that a reply wants called."""

    name: str
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict)
    """An object, or the text that a model wrote, JSON or not."""


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer."""

    text: str = ""
    tools: list[Call] = msgspec.field(default_factory=list)
    error: str = ""
    when: str | None = None
    wait_s: float = 0.0
    finish: str = ""
    input_tokens: int | None = None
    """What it says that it took; None: a guess by length."""
    output_tokens: int | None = None


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers to a conversation."""

    replies: list[Reply]
    name: str = ""
    description: str = ""


@dataclass(slots=True)
class Scripts:
    """The operator's scripts. They are read again when a file has changed."""

    folder: Path | None = None
    _read: dict[str, tuple[tuple[int, int], Script]] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Those that there are."""
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(
            path.stem for path in self.folder.glob("*.json") if _NAME.fullmatch(path.stem)
        )

    def get(self, name: str) -> Script:
        """One of them.

        Raises:
            ServiceError: MODEL_NOT_FOUND; CONFIG_INVALID where it cannot be read.
        """
        if self.folder is None or not _NAME.fullmatch(name):
            raise _no_script(name)
        path = self.folder / f"{name}.json"
        try:
            told = path.stat()
            stamp = (told.st_mtime_ns, told.st_size)
            if self._read.get(name, (None, None))[0] != stamp:
                self._read[name] = stamp, msgspec.json.decode(path.read_bytes(), type=Script)
        except OSError:
            raise _no_script(name) from None
        except msgspec.DecodeError as error:
            text = f"The script {name} of the provider scripted cannot be read: {error}."
            raise ServiceError(Reason.CONFIG_INVALID, text, model=name) from None
        return self._read[name][1]


class ScriptedProvider:
    """Plays scripts."""

    def __init__(
        self, name: str, capabilities: Capabilities, scripts: Scripts, inline: str = ""
    ) -> None:
        """Play nothing yet.

        Args:
            name: As before the slash of a model.
            capabilities: What it can.
            scripts: The operator's.
            inline: A script as `data:application/json,…`, which is played under whatever name.

        Raises:
            ServiceError: FIELD_INVALID.
        """
        self.name = name
        self.capabilities = capabilities
        self._scripts = scripts
        self._inline = inline_script(inline) if inline else None

    async def chat(self, request: ChatRequest, *, hears: Hears | None = None) -> ChatAnswer:
        """Play a reply; see `ChatProvider`."""
        reply = self._reply(request)
        try:
            async with asyncio.timeout(request.timeout_s):
                await asyncio.sleep(min(max(reply.wait_s, 0.0), _WAIT_SECONDS_MAX))
        except TimeoutError:
            text = f"The provider {self.name} took longer than {request.timeout_s:g} s."
            limit = f"{request.timeout_s:g}"
            raise ServiceError(
                Reason.PROVIDER_TIME_LIMIT, text, provider=self.name, limit=limit, unit="s"
            ) from None
        if reply.error:
            raise _scripted_error(self.name, reply)
        answer = _answer(request, reply)
        if hears is not None:
            for piece in _pieces(answer.text):
                hears.text(piece)
                await asyncio.sleep(0)
        return answer

    async def models(self) -> Sequence[ModelFacts]:
        """The scripts."""
        return [
            ModelFacts(name=name, tools=True, multimodal=True, loaded=True, available=True)
            for name in sorted({ECHO, *self._scripts.names()})
        ]

    async def close(self) -> None:
        """Nothing to do."""

    def _reply(self, request: ChatRequest) -> Reply:
        if self._inline is not None:
            return chosen(self._inline, request)
        if request.model == ECHO:
            return Reply(text=_last_of(request, Role.USER))
        return chosen(self._scripts.get(request.model), request)


def inline_script(address: str) -> Script:
    """The script in an address.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    rule = f"must be {_INLINE}{{…}} for the provider scripted"
    if not address.startswith(_INLINE) or len(address) > PROVIDER_SCRIPT_BYTES_MAX:
        raise field_invalid("base_url", rule)
    document = address.removeprefix(_INLINE).strip()
    plain = document if document.startswith("{") else unquote(document)
    try:
        return msgspec.json.decode(plain, type=Script)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise field_invalid("base_url", f"{rule}: {error}") from None


def chosen(script: Script, request: ChatRequest) -> Reply:
    """The reply that is next in a conversation.

    Raises:
        ServiceError: PROVIDER_ANSWER_INVALID where there is none.
    """
    asked = _last_of(request, Role.USER).lower()
    fitting = [
        reply for reply in script.replies if reply.when is not None and reply.when.lower() in asked
    ]
    replies = fitting or [reply for reply in script.replies if reply.when is None]
    if not replies:
        text = "The script has no reply to that."
        raise ServiceError(Reason.PROVIDER_ANSWER_INVALID, text, provider="scripted")
    roles = [message.role for message in request.messages]
    if fitting:
        since = reversed(roles)
        roles = list(itertools.takewhile(lambda role: role is not Role.USER, since))
    return replies[min(roles.count(Role.ASSISTANT), len(replies) - 1)]


def _answer(request: ChatRequest, reply: Reply) -> ChatAnswer:
    text = _filled(reply.text, request)
    number = sum(len(message.tool_uses) for message in request.messages)
    uses = tuple(
        ToolUse(
            call_id=f"call_{number + position}",
            name=call.name,
            arguments=_arguments(call.arguments, request),
        )
        for position, call in enumerate(reply.tools, 1)
    )
    finish = Finish(reply.finish) if reply.finish in set(Finish) else Finish.STOP
    words = text.split(" ")
    if request.max_tokens is not None and len(words) > request.max_tokens:
        text, finish = " ".join(words[: request.max_tokens]), Finish.LENGTH
    return ChatAnswer(
        text=text,
        tool_uses=uses,
        finish=Finish.TOOL_CALLS if uses else finish,
        usage=_usage(request, reply, text + "".join(use.name + use.arguments for use in uses)),
        model=request.model,
    )


def _usage(request: ChatRequest, reply: Reply, said: str) -> Usage:
    guess = estimated_usage(request, said)
    asked, answered = reply.input_tokens, reply.output_tokens
    return Usage(
        input_tokens=guess.input_tokens if asked is None else asked,
        output_tokens=guess.output_tokens if answered is None else answered,
        estimated=asked is None or answered is None,
    )


def _arguments(arguments: Any, request: ChatRequest) -> str:
    if isinstance(arguments, str):
        return _filled(arguments, request)
    return json.dumps(_filled_inside(arguments, request))


def _filled_inside(value: Any, request: ChatRequest) -> Any:
    if isinstance(value, str):
        return _filled(value, request)
    if isinstance(value, Mapping):
        return {name: _filled_inside(inner, request) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled_inside(inner, request) for inner in value]
    return value


def _filled(text: str, request: ChatRequest) -> str:
    return _PLACEHOLDER.sub(lambda found: _meant(found[1], found[2], request), text)


def _meant(what: str, path: str, request: ChatRequest) -> str:
    told = _last_of(request, Role.USER if what == "input" else Role.TOOL)
    if not path:
        return told
    try:
        value = json.loads(told)
        for part in path.strip(".").split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (ValueError, LookupError, TypeError):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _last_of(request: ChatRequest, role: Role) -> str:
    found = (one.text for one in reversed(request.messages) if one.role is role)
    return next(found, "")


def _pieces(text: str) -> Iterator[str]:
    """Words, each with the blank before it."""
    return (found[0] for found in re.finditer(r"\s*\S+|\s+$", text))


def _scripted_error(provider: str, reply: Reply) -> ServiceError:
    reason = reason_named(reply.error, Reason.PROVIDER_REFUSED)
    return ServiceError(reason, reply.text or "The script says so.", provider=provider)


def _no_script(name: str) -> ServiceError:
    text = f"The provider scripted has no script {name[:100]}."
    return ServiceError(Reason.MODEL_NOT_FOUND, text, provider="scripted", model=name[:100])
