"""How the commands speak: results on stdout, everything else on stderr, one exit code a family.

Text that came from documents, scripts or servers is cleaned of control characters before it
reaches a terminal; a passage must not be able to move the cursor.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
from array import array
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from llmspell.errors import LLMSpellError
    from llmspell.types import SearchResult

    from services.common.errors import ServiceError


class ExitCode(IntEnum):
    """What a command's exit code says. `docs/reference/cli.md` has the same table."""

    OK = 0
    """Done."""
    PARTIAL = 1
    """Done in part, or the answer is no: a file was skipped, a process does not serve."""
    USAGE = 2
    """The command line is wrong."""
    UNREACHABLE = 3
    """Nothing answers at the address, or none is known; start it or name it."""
    REFUSED = 4
    """The key is missing, unknown or not allowed to do this."""
    NOT_FOUND = 5
    """What was named is not there, or not offered."""
    INVALID = 6
    """An argument is unfit, or a script does not compile."""
    LIMIT = 7
    """A limit of size, number or time was reached."""
    PRECONDITION = 8
    """The system is not in the state for it: exists already, changed meanwhile, script failed."""
    INTERNAL = 9
    """Their fault or ours; the message has the id that the log knows."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE_CLOSED = 141
    """Whoever read the output went away, or it cannot be written."""


_EXIT_CODES = {
    "INVALID_ARGUMENT": ExitCode.INVALID,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "ALREADY_EXISTS": ExitCode.PRECONDITION,
    "ABORTED": ExitCode.PRECONDITION,
    "FAILED_PRECONDITION": ExitCode.PRECONDITION,
    "PERMISSION_DENIED": ExitCode.REFUSED,
    "UNAUTHENTICATED": ExitCode.REFUSED,
    "RESOURCE_EXHAUSTED": ExitCode.LIMIT,
    "DEADLINE_EXCEEDED": ExitCode.LIMIT,
    "UNAVAILABLE": ExitCode.UNREACHABLE,
    "UNIMPLEMENTED": ExitCode.NOT_FOUND,
}
_ADVICE = {
    "SERVICE_UNAVAILABLE": "Start one with `llmspell up`, or name another with --address.",
    "CREDENTIAL_MISSING": "Set LLMSPELL_API_KEY, or use --profile.",
    "CREDENTIAL_INVALID": "See LLMSPELL_API_KEY or the profile; `llmspell key create` makes a key.",
    "TENANT_NOT_FOUND": "`llmspell tenant list` shows the tenants; name one with --tenant.",
    "COLLECTION_NOT_FOUND": "`llmspell rag stats` shows the collections.",
}

_KIB = 1024
_PATHS = {
    "scan": "every record compared",
    "matches": "every match compared",
    "graph": "by graph",
    "graph_widened": "by graph, widened for the filter",
    "fallback": "by graph, then every match compared",
}

_KEPT = "\n\t"
_CONTROL = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in _KEPT
}


def stderr() -> Console:
    """Where messages, warnings and progress go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def stdout() -> Console:
    """Where results for people go."""
    return Console(highlight=False)


def clean(text: str) -> str:
    """A text without what could command a terminal."""
    return text.translate(_CONTROL)


def say(text: str, style: str = "") -> None:
    """A line on stderr."""
    stderr().print(Text(clean(text), style=style))


def show_line(text: str) -> None:
    """A line of result on stdout."""
    sys.stdout.write(clean(text) + "\n")


def show_json(value: Any) -> None:
    """A result as JSON on stdout, and nothing else."""
    json.dump(to_plain(value), sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def show_table(
    headings: list[str], rows: list[list[str]], *, numbers: tuple[int, ...] = ()
) -> None:
    """Rows under headings; the columns in `numbers` are set to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for position, heading in enumerate(headings):
        right = position in numbers
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    console = stdout()
    with console.capture() as captured:
        console.print(table)
    lines = captured.get().splitlines()
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines))


def show_count(number: int, noun: str) -> str:
    """A number with its noun."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith('ch') else 's'}"


def show_size(size: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < _KIB:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} GiB"


def show_footer(found: SearchResult[Any], how: str = "") -> None:
    """How a search went about it, for a person who looks; on stderr. `how` says it better."""
    how = how or _PATHS.get(found.path, found.path)
    parts = [how] if how else []
    if found.match_count:
        matches = show_count(found.match_count, "match")
        parts.append(f"{matches}, {found.candidate_count:,} looked at")
    parts.append("complete" if found.complete else "not complete: more may be had with --exact")
    say(" · ".join(parts), "dim" if found.complete else "yellow")


def show_raw(data: bytes) -> None:
    """Bytes as they are, at once."""
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # a test's stdout
        sys.stdout.write(data.decode("utf-8", "replace"))
        return
    binary.write(data)
    binary.flush()


def to_plain(value: Any) -> Any:
    """A result as JSON can write it: times in ISO 8601, bytes as {"base64": …}."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: to_plain(getattr(value, name)) for name in names}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | array):
        return [to_plain(entry) for entry in value]
    return value


def fail(error: LLMSpellError | ServiceError) -> NoReturn:
    """Tell of an error in one sentence and what to do, and end the command with its code.

    Raises:
        typer.Exit: always.
    """
    code, reason = _code_and_reason(error)
    advice = _ADVICE.get(reason, "")
    show_error(f"{error.message} {advice}".rstrip())
    if error.metadata.get("key") == "address":  # none is known, neither given nor saved
        raise typer.Exit(ExitCode.UNREACHABLE)
    raise typer.Exit(_EXIT_CODES.get(code, ExitCode.INTERNAL))


def show_error(message: str) -> None:
    """An error's sentence on stderr."""
    stderr().print(Text.assemble(("error: ", "bold red"), clean(message)))


@contextmanager
def failures() -> Iterator[None]:
    """Every way a command may fail, as a message and an exit code; never a traceback.

    Raises:
        typer.Exit: where it failed.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.PIPE_CLOSED) from None
    except KeyboardInterrupt:
        say("Interrupted.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        show_error("The output cannot be written: no space is left on its device.")
        raise typer.Exit(ExitCode.PIPE_CLOSED) from None
    except UnicodeEncodeError:
        show_error("An argument is not UTF-8 text.")
        raise typer.Exit(ExitCode.INVALID) from None
    except Exception as error:
        if not _is_known(error):
            raise
        fail(error)  # type: ignore[arg-type]  # known to be one of the two


def _is_known(error: Exception) -> bool:
    """Whether it is an error of ours. Loaded late: help and version must not wait for protobuf."""
    from llmspell.errors import LLMSpellError  # noqa: PLC0415

    from services.common.errors import ServiceError  # noqa: PLC0415

    return isinstance(error, LLMSpellError | ServiceError)


def _code_and_reason(error: LLMSpellError | ServiceError) -> tuple[str, str]:
    from llmspell.errors import LLMSpellError  # noqa: PLC0415  (likewise)

    if isinstance(error, LLMSpellError):
        return error.code, error.reason
    from services.common.errors import reason_name  # noqa: PLC0415
    from services.common.status import status_code  # noqa: PLC0415

    return status_code(error.reason).name, reason_name(error.reason)
