"""code-search: definitions, uses of a name, and text, in the programs of the tenant's folder."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import re2

from services.runtime.toolbox.code import languages
from services.runtime.toolbox.code.languages import Language, Node
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.folder import Folder
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    field_invalid,
    field_required,
    limit_exceeded,
    parameters,
)

FILES_MAX = 5_000
FILE_BYTES_MAX = MIB
BYTES_MAX = 64 * MIB
MATCHES_MAX = 1_000
CONTEXT_LINES_MAX = 20
_LINE_LENGTH_MAX = 300
_PASSED_OVER = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", "target", "dist"}
)

Match = dict[str, Any]
Finder = Callable[[bytes, Language, list[str]], Iterator[Match]]


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    find = _FINDERS[operation](arguments)
    search = _Search(arguments, desk.folder)
    for path, language, source in search.programs():
        lines = source.decode("utf-8", "replace").split("\n")
        for match in find(source, language, lines):
            if not search.take(path, language, lines, match):
                break
        if search.truncated:
            break
    result = {
        "matches": search.matches,
        "count": len(search.matches),
        "files_searched": search.searched,
        "files_skipped": search.skipped,
        "truncated": search.truncated,
    }
    message = f"Found {len(search.matches)} in {search.searched} files"
    return Outcome(operation=operation, result=result, message=message)


class _Search:
    """Goes through the files, and keeps what is found."""

    def __init__(self, arguments: Arguments, folder: Folder) -> None:
        self._folder = folder
        self._path: str = arguments["path"]
        self._wanted = set(arguments.get("languages", ()))
        self._limit: int = arguments["limit"]
        self._context: int = arguments["context_lines"]
        self.matches: list[Match] = []
        self.searched = self.skipped = 0
        self.truncated = False
        self._bytes = 0

    def programs(self) -> Iterator[tuple[str, Language, bytes]]:
        """Every file of a known language, and what it holds."""
        for path in self._paths():
            language = languages.language_of(path)
            if language is None or (self._wanted and language.name not in self._wanted):
                continue
            if self.searched + self.skipped >= FILES_MAX:
                raise limit_exceeded("path (programs)", FILES_MAX + 1, FILES_MAX)
            try:
                source = self._folder.read(path, limit=FILE_BYTES_MAX)
            except ToolError as error:
                if error.reason not in ("LIMIT_EXCEEDED", "FILE_NOT_FOUND", "PATH_REFUSED"):
                    raise
                self.skipped += 1
                continue
            self._bytes += len(source)
            if self._bytes > BYTES_MAX:
                raise limit_exceeded("path (programs)", self._bytes, BYTES_MAX, "bytes")
            self.searched += 1
            yield path, language, source

    def _paths(self) -> Iterator[str]:
        if self._path != ".":
            known = self._folder.stat(self._path)
            if known is None:
                raise ToolError("FILE_NOT_FOUND", f"There is no {self._path}.", field="path")
            if not stat.S_ISDIR(known.st_mode):
                yield self._path
                return
        found = self._folder.walk(self._path, enter=lambda each: each.name not in _PASSED_OVER)
        yield from (each.path for each in found if each.kind == "file")

    def take(self, path: str, language: Language, lines: list[str], match: Match) -> bool:
        """Keep a match; False where there is no room for more."""
        if len(self.matches) >= self._limit:
            self.truncated = True
            return False
        at = match["line"] - 1
        told = {"path": path, "language": language.name, **match, "text": _line(lines, at)}
        if self._context:
            told["context_before"] = _lines(lines, at - self._context, at)
            told["context_after"] = _lines(lines, at + 1, at + 1 + self._context)
        self.matches.append(told)
        return True


def _lines(lines: list[str], first: int, last: int) -> list[str]:
    return [_line(lines, n) for n in range(max(0, first), min(last, len(lines)))]


def _line(lines: list[str], number: int) -> str:
    return lines[number].rstrip("\r")[:_LINE_LENGTH_MAX] if number < len(lines) else ""


def _place(node: Node) -> Match:
    """Line and column from 1; columns are bytes, as compilers count them."""
    row, column = node.start_point
    return {"line": row + 1, "column": column + 1}


# ---- what is looked for


def _symbols(arguments: Arguments) -> Finder:
    """Definitions by a pattern of their name, or all."""
    pattern, kinds = arguments.get("input", "*"), set(arguments.get("kinds", ()))
    fold = str.casefold if not arguments["case_sensitive"] else str

    def find(source: bytes, language: Language, lines: list[str]) -> Iterator[Match]:
        del lines
        for symbol in languages.symbols(languages.parse(source, language), language):
            fits = fnmatch.fnmatchcase(fold(symbol.name), fold(pattern))
            if fits and (not kinds or symbol.kind in kinds):
                yield {
                    **_place(symbol.at),
                    "kind": symbol.kind,
                    "name": symbol.name,
                    "container": symbol.container,
                    "end_line": symbol.node.end_point[0] + 1,
                }

    return find


def _references(arguments: Arguments) -> Finder:
    """Every place where a name stands, told apart from its definitions."""
    name = _needed(arguments)

    def find(source: bytes, language: Language, lines: list[str]) -> Iterator[Match]:
        del lines
        root = languages.parse(source, language)
        defined = {
            symbol.at.start_byte
            for symbol in languages.symbols(root, language)
            if symbol.name == name
        }
        for node in languages.identifiers(root, name.encode()):
            kind = "definition" if node.start_byte in defined else "reference"
            yield {**_place(node), "kind": kind, "name": name}

    return find


def _text(arguments: Arguments) -> Finder:
    """Lines that hold a text, or fit an expression."""
    options = re2.Options()
    options.case_sensitive = arguments["case_sensitive"]
    options.literal = not arguments["use_regex"]
    options.log_errors = False
    try:
        pattern = re2.compile(_needed(arguments), options)
    except re2.error as error:
        raise field_invalid("input", f"is no regular expression of RE2: {error}") from None

    def find(source: bytes, language: Language, lines: list[str]) -> Iterator[Match]:
        del source, language
        for number, line in enumerate(lines):
            found = pattern.search(line)
            if found:
                column = len(line[: found.start()].encode()) + 1
                yield {"line": number + 1, "column": column, "kind": "text"}

    return find


def _needed(arguments: Arguments) -> str:
    text: str = arguments.get("input", "")
    if not text.strip():
        raise field_required("input")
    return text


_FINDERS: Mapping[str, Callable[[Arguments], Finder]] = {
    "symbols": _symbols,
    "references": _references,
    "text": _text,
}

TOOLS = (
    Tool(
        name="code-search",
        description="Finds definitions, uses of a name, and text in the programs of a folder.",
        category="code",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES}),
        limits=ToolLimits(wall_s=60.0, cpu_s=30, memory_bytes=512 * MIB),
        synonyms={
            "query": "input",
            "name": "input",
            "symbol": "input",
            "pattern": "input",
            "directory": "path",
            "max_results": "limit",
        },
        parameters=parameters(
            operation={
                "enum": list(_FINDERS),
                "default": "symbols",
                "description": "What to look for: definitions, every place where a name stands, "
                "or text.",
            },
            input={
                "type": "string",
                "maxLength": 1000,
                "description": "symbols: a name, with `*` and `?` for letters; references: a name; "
                "text: a text or, with `use_regex`, an expression of RE2.",
            },
            path={"type": "string", "default": ".", "description": "A folder, or one file."},
            languages={
                "type": "array",
                "items": {"enum": list(languages.LANGUAGES)},
                "description": "Only programs in these; by default all that are known.",
            },
            kinds={
                "type": "array",
                "items": {"enum": list(languages.KINDS)},
                "description": "symbols: only definitions of these kinds.",
            },
            use_regex={
                "type": "boolean",
                "default": False,
                "description": "text: whether `input` is an expression.",
            },
            case_sensitive={
                "type": "boolean",
                "default": True,
                "description": "Whether large and small letters differ; names of references do.",
            },
            context_lines={
                "type": "integer",
                "minimum": 0,
                "maximum": CONTEXT_LINES_MAX,
                "default": 0,
                "description": "Lines before and after to give as well.",
            },
            limit={
                "type": "integer",
                "minimum": 1,
                "maximum": MATCHES_MAX,
                "default": 100,
                "description": "Most places to tell of.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "matches": {
                    "type": "array",
                    "description": "In order of path and line: `path`, `language`, `line`, "
                    "`column`, `kind`, `text` of the line; of symbols `name`, `container`, "
                    "`end_line` too; `context_before`, `context_after` where asked for.",
                    "items": {
                        "type": "object",
                        "required": ["path", "language", "line", "column", "kind", "text"],
                    },
                },
                "count": {"type": "integer", "description": "How many there are."},
                "files_searched": {"type": "integer", "description": "Programs that were read."},
                "files_skipped": {
                    "type": "integer",
                    "description": "Programs that were too large, or went away.",
                },
                "truncated": {"type": "boolean", "description": "Whether there are more."},
            },
            "required": ["matches", "count", "files_searched", "files_skipped", "truncated"],
        },
        notes=f"Knows {', '.join(languages.LANGUAGES)} by their trees, so a name in a comment or a "
        "string is no use of it; a program with mistakes is read as far as it goes. At most "
        f"{FILES_MAX} programs of 1 MiB each, 64 MiB together; folders such as .git and "
        "node_modules are passed over. Search by meaning is not offered yet; `semantic-search` "
        "finds what was ingested.",
        run=_run,
    ),
)
