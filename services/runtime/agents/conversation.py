"""Conversations: what was said, kept in the scope of a session or of the agent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from llmspell.v1 import agent_pb2

from services.common.context import CallContext
from services.common.errors import field_invalid
from services.common.limits import (
    CONVERSATION_BYTES_MAX,
    CONVERSATION_MESSAGES_KEPT,
    RUN_CONVERSATION_SECONDS,
)
from services.common.values import fill_map, map_to_python
from services.runtime.agents.kept import KeptItems, Place
from services.runtime.agents.trimming import trimmed
from services.runtime.providers.model import Message, Role, ToolUse

_ID_LENGTH_MAX = 128
_OF_RUN = "conversation/run:"
"""What the keys of conversations begin with that a run has outside of sessions."""
_LONG_TEXT_LENGTH = 50_000
"""Characters of a text of which no more is kept, where an exchange is too much."""
Kept = agent_pb2.GetConversationResponse
"""As it is kept: the answer to who asks for it."""


def conversation_prefix(agent: str) -> str:
    """What the keys of an agent's conversations in sessions begin with."""
    return f"agent/{agent}/conversation"


def place_of(agent: str, session_id: str, conversation_id: str) -> Place | None:
    """Where a conversation is kept; None: nowhere.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if len(conversation_id) > _ID_LENGTH_MAX or not all(map(_is_plain, conversation_id)):
        rule = f"must be at most {_ID_LENGTH_MAX} letters, digits, '_', '-' and ':'"
        raise field_invalid("conversation_id", rule)
    if session_id:
        end = f"/{conversation_id}" if conversation_id else ""
        return Place(f"session:{session_id}", conversation_prefix(agent) + end)
    return Place(f"agent:{agent}", f"conversation/{conversation_id}") if conversation_id else None


def _is_plain(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character in "_-:")


class Conversations:
    """Of all agents."""

    def __init__(self, items: KeptItems) -> None:
        self._items = items

    async def read(self, context: CallContext, place: Place) -> Kept:
        """A conversation; empty where there is none."""
        kept, _ = await self._items.read(context, place, Kept)
        return kept if kept is not None else Kept()

    async def add(
        self,
        context: CallContext,
        place: Place,
        said: Sequence[Message],
        *,
        is_again: bool = False,
    ) -> None:
        """Keep what was said, after whatever somebody else has said in between.

        `is_again`: it may have been kept already, by a process that was lost since.
        """
        new = [_kept(message) for message in _short(said)]

        def change(known: Kept | None) -> Kept | None:
            if is_again and known and _words(known.messages[-len(new) :]) == _words(new):
                return None
            kept = Kept(trimmed_count=known.trimmed_count if known else 0)
            messages = [*(known.messages if known else ()), *new]
            kept.messages.extend(_that_fit(messages))
            kept.trimmed_count += len(messages) - len(kept.messages)
            return kept

        ttl_s = RUN_CONVERSATION_SECONDS if place.key.startswith(_OF_RUN) else 0
        await self._items.change(context, place, Kept, change, ttl_s=ttl_s)

    async def delete(self, context: CallContext, place: Place) -> bool:
        """Erase one; whether it was there."""
        return await self._items.delete(context, place)


def _words(
    messages: Sequence[agent_pb2.ConversationMessage],
) -> list[tuple[str, str, str]]:
    """What was said, whenever it was."""
    return [(message.role, message.text, message.call_id) for message in messages]


def _that_fit(
    messages: Sequence[agent_pb2.ConversationMessage],
) -> list[agent_pb2.ConversationMessage]:
    """The newest, as many as are kept."""
    plain = messages_of(messages)
    left = trimmed(
        plain,
        most=CONVERSATION_MESSAGES_KEPT,
        most_tokens=CONVERSATION_BYTES_MAX,
        tokens_of=_bytes_of,
    )
    kept = set(map(id, left))
    return [message for message, one in zip(messages, plain, strict=True) if id(one) in kept]


def _short(said: Sequence[Message]) -> Sequence[Message]:
    """What was said; of an exchange that is too much to keep whole, question and answer."""
    if sum(map(_bytes_of, said)) <= CONVERSATION_BYTES_MAX:
        return said
    return [
        replace(message, text=message.text[:_LONG_TEXT_LENGTH], tool_uses=())
        for message in (said[0], said[-1])
    ]


def _bytes_of(message: Message) -> int:
    uses = sum(len(use.arguments) + len(use.name) + 64 for use in message.tool_uses)
    return len(message.text.encode()) + uses + 64


def messages_of(kept: Iterable[agent_pb2.ConversationMessage]) -> list[Message]:
    """A kept conversation as a model is told it."""
    return [
        Message(
            role=Role(message.role),
            text=message.text,
            call_id=message.call_id,
            tool_uses=tuple(
                ToolUse(
                    call_id=call.call_id,
                    name=call.tool,
                    arguments=msgspec.json.encode(
                        map_to_python(call.arguments.fields, "arguments"), enc_hook=str
                    ).decode(),
                )
                for call in message.tool_calls
            ),
        )
        for message in kept
    ]


def _kept(message: Message) -> agent_pb2.ConversationMessage:
    kept = agent_pb2.ConversationMessage(
        role=message.role.value, text=message.text, call_id=message.call_id
    )
    kept.time.GetCurrentTime()
    for use in message.tool_uses:
        call = kept.tool_calls.add(call_id=use.call_id, tool=use.name)
        try:
            arguments = msgspec.json.decode(use.arguments or "{}", type=dict[str, Any])
            fill_map(call.arguments.fields, arguments)
        except (msgspec.DecodeError, RecursionError, TypeError, ValueError):
            call.arguments.Clear()  # what the model wrote was no arguments
    return kept
