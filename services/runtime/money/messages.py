"""What was spent, as the contract tells it."""

from __future__ import annotations

from llmspell.v1 import execution_pb2

from services.runtime.money.model import Spent


def spent_message(spent: Spent) -> execution_pb2.Spent:
    """Tokens and money."""
    return execution_pb2.Spent(
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        cached_tokens=spent.cached_tokens,
        cost_usd=spent.cost_usd,
        estimated=spent.estimated,
        model_calls=spent.model_calls,
        tool_calls=spent.tool_calls,
    )


def read_spent(message: execution_pb2.Spent) -> Spent:
    """Tokens and money, read."""
    return Spent(
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        cached_tokens=message.cached_tokens,
        cost_usd=message.cost_usd,
        estimated=message.estimated,
        model_calls=message.model_calls,
        tool_calls=message.tool_calls,
    )
