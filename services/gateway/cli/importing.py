"""Writes records of a file of JSON lines, with progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from services.gateway.cli.output import say, stderr

if TYPE_CHECKING:
    from llmspell import Client, Record

_FIELDS = ("id", "vector", "metadata", "text", "event_time", "ttl_s")


@dataclass(slots=True)
class Imported:
    """What an import wrote."""

    record_count: int = 0
    revision: int = 0
    elapsed_s: float = 0.0


def import_file(client: Client, collection: str, file: Path, scope: str) -> Imported:
    """Write every record of a file.

    Raises:
        LLMSpellError: a line is unfit, or the service refused it; what was told of stands.
    """
    done, started = Imported(), time.monotonic()
    with ExitStack() as stack:
        lines = _open(file, stack)
        bar = stack.enter_context(_bar(file))
        task = bar.add_task("importing", total=_size(file), records="0")
        try:
            for progress in client.import_vectors(collection, _records(lines), scope=scope):
                done.record_count, done.revision = progress.record_count, progress.revision
                place = lines.tell() if lines.seekable() else 0
                bar.update(task, completed=place, records=f"{done.record_count:,}")
        except BaseException:
            say(f"{done.record_count} records are in; importing again replaces them.")
            raise
    done.elapsed_s = round(time.monotonic() - started, 3)
    return done


def _open(file: Path, stack: ExitStack) -> IO[bytes]:
    from llmspell.errors import InvalidArgument  # noqa: PLC0415  (slow to import)

    if str(file) == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(file.open("rb"))
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be read: {error.strerror}.") from None


def _size(file: Path) -> int | None:
    return None if str(file) == "-" else file.stat().st_size


def _bar(file: Path) -> Progress:
    console = stderr()
    columns = [
        TextColumn(f"importing {file.name}"),
        BarColumn(),
        TextColumn("{task.fields[records]} records"),
        DownloadColumn(),
        TimeRemainingColumn(),
    ]
    shown = console.is_terminal
    return Progress(
        *columns, console=console, transient=True, disable=not shown, refresh_per_second=5
    )


def _records(lines: IO[bytes]) -> Iterator[Record]:
    number = 0
    while line := lines.readline():
        number += 1
        if line.strip():
            yield _record(line, f"line {number}")


def _record(line: bytes, place: str) -> Record:
    from llmspell import Record  # noqa: PLC0415  (slow to import)

    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _unfit(place, f"is not JSON: {error}") from None
    if not isinstance(fields, dict) or "vector" not in fields:
        raise _unfit(place, "must be an object with a vector")
    for name in fields:
        if name not in _FIELDS:
            raise _unfit(place, f"has {name!r}; known are {', '.join(_FIELDS)}")
    return Record(
        record_id=str(fields.get("id", "")),
        vector=fields["vector"],
        metadata=fields.get("metadata") or {},
        text=fields.get("text") or "",
        event_time=_time(fields.get("event_time"), place),
        ttl_s=fields.get("ttl_s"),
    )


def _time(value: Any, place: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _unfit(place, "has an event_time that is not in ISO 8601") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _unfit(place: str, rule: str) -> Exception:
    from llmspell.errors import InvalidArgument  # noqa: PLC0415  (slow to import)

    return InvalidArgument(f"{place} {rule}.", metadata={"field": place})
