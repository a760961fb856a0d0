"""Server-sent events out of bytes, as streams come; tolerant of what servers do wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

DONE = "[DONE]"


async def events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The data of each event.

    Lines are cut at the byte of the line feed alone, so that a character whose bytes come in two
    pieces is whole, and U+2028 within JSON ends nothing. Comments, names of events and whatever is
    no event are passed over. A server may forget the blank line between two JSON events, or after
    the last.
    """
    pending: list[str] = []
    async for line in lines(pieces):
        if not line:
            if pending:
                yield "\n".join(pending)
            pending = []
        elif line.startswith(b"data:"):
            data = line[5:].removeprefix(b" ").decode("utf-8", "replace")
            if pending and pending[-1].endswith("}") and data.startswith(("{", DONE)):
                yield "\n".join(pending)
                pending = []
            pending.append(data)
    if pending:
        yield "\n".join(pending)


async def lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Lines without their ends, CR LF or LF; the last may have none."""
    begun: list[bytes] = []
    async for piece in pieces:
        first, *more = piece.split(b"\n")
        begun.append(first)
        for line in more:
            yield b"".join(begun).removesuffix(b"\r")
            begun = [line]
    last = b"".join(begun).removesuffix(b"\r")
    if last:
        yield last
