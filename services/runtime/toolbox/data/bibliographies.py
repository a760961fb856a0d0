"""Bibliographies: BibTeX, and YAML as pybtex or as Hayagriva writes it."""

from __future__ import annotations

import re
from typing import Any

import pybtex.errors
import yaml
from pybtex.database import BibliographyData, Entry, InvalidNameString, Person
from pybtex.database.input import bibtex
from pybtex.exceptions import PybtexError

from services.runtime.toolbox.model import MIB, field_invalid, limit_exceeded

INPUT_BYTES_MAX = 5 * MIB
ENTRIES_MAX = 1_000

_MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_FIELDS = {
    "page-range": "pages", "page_range": "pages", "issue": "number", "organization": "organization",
    "affiliated": "institution", "serial-number": "isbn", "chapter": "chapter",
}  # fmt: skip
_CONTAINERS = {
    "article": "journal", "inproceedings": "booktitle", "incollection": "booktitle",
    "inbook": "booktitle",
}  # fmt: skip
_TYPES = {
    "article": "article", "book": "book", "chapter": "incollection", "anthos": "incollection",
    "report": "techreport", "thesis": "phdthesis", "web": "misc", "conference": "inproceedings",
    "proceedings": "proceedings", "manuscript": "unpublished", "entry": "incollection",
    "misc": "misc", "blog": "misc", "repository": "misc", "video": "misc", "reference": "book",
}  # fmt: skip
"""Hayagriva's kinds as BibTeX's."""


def detected(source: str) -> str:
    """`bibtex` or `yaml`."""
    return "bibtex" if re.search(r"^\s*@\w+\s*[{(]", source, re.MULTILINE) else "yaml"


def read(source: str, shape: str) -> tuple[BibliographyData, list[str]]:
    """The entries, and what was wrong with single ones.

    Raises:
        ToolError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    size = len(source.encode())
    if size > INPUT_BYTES_MAX:
        raise limit_exceeded("input", size, INPUT_BYTES_MAX, "bytes")
    with pybtex.errors.capture() as errors:
        try:
            data = _bibtex(source) if shape == "bibtex" else _yaml(source)
        except PybtexError as error:
            raise field_invalid("input", f"is no {shape}: {_words(error)}") from None
    if len(data.entries) > ENTRIES_MAX:
        raise limit_exceeded("input", len(data.entries), ENTRIES_MAX, "entries")
    if not data.entries:
        first = f": {_words(errors[0])}" if errors else ""
        raise field_invalid("input", f"has no entries of {shape}{first}")
    return data, [_words(error) for error in errors]


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _bibtex(source: str) -> BibliographyData:
    data: BibliographyData = bibtex.Parser(encoding="utf-8").parse_string(source)
    return data


def _yaml(source: str) -> BibliographyData:
    if _has_aliases(source):
        raise field_invalid("input", "must not refer to its own parts (YAML aliases)")
    try:
        value = yaml.safe_load(source)
    except (yaml.YAMLError, RecursionError) as error:
        raise field_invalid("input", f"is no yaml: {_words(error)}") from None
    entries = value.get("entries", value) if isinstance(value, dict) else value
    if not isinstance(entries, dict):
        raise field_invalid("input", "must be entries by their keys")
    if len(entries) > ENTRIES_MAX:
        raise limit_exceeded("input", len(entries), ENTRIES_MAX, "entries")
    data = BibliographyData()
    for key, entry in entries.items():
        data.add_entry(str(key), _entry(str(key), entry))
    return data


def _has_aliases(source: str) -> bool:
    try:
        return any(isinstance(token, yaml.AliasToken) for token in yaml.scan(source))
    except yaml.YAMLError:
        return False  # reading it says what is wrong


def _entry(key: str, given: Any) -> Entry:
    if not isinstance(given, dict) or "type" not in given:
        raise field_invalid("input", f"has an entry {key[:100]} without a type")
    kind = str(given["type"]).lower()
    kind = _TYPES.get(kind, kind) if "parent" in given or "date" in given else kind
    entry = Entry(kind)
    for name, value in given.items():
        _add(entry, str(name).lower(), value)
    return entry


def _add(entry: Entry, name: str, value: Any) -> None:
    if name == "type":
        return
    if name in ("author", "editor"):
        for person in value if isinstance(value, list) else [value]:
            entry.add_person(_person(person), name)
    elif name == "date":
        _add_date(entry, str(value))
    elif name == "parent":
        _add_parent(entry, value[0] if isinstance(value, list) and value else value)
    elif isinstance(value, dict):
        _add_parts(entry, name, value)
    else:
        entry.fields[_FIELDS.get(name, name)] = str(value)


def _person(given: Any) -> Person:
    """`Last, First`, or parts by name."""
    if isinstance(given, dict):
        first = given.get("given-name", given.get("first", ""))
        last = given.get("name", given.get("last", ""))
        return Person(first=str(first), last=str(last), prelast=str(given.get("prefix", "")))
    try:
        return Person(str(given))
    except InvalidNameString:
        return Person(last=str(given))


def _add_date(entry: Entry, date: str) -> None:
    year, _, rest = date.partition("-")
    entry.fields["year"] = year
    if rest:
        number = rest[:2]
        if number.isdecimal() and 1 <= int(number) <= len(_MONTHS):
            entry.fields["month"] = _MONTHS[int(number) - 1]


def _add_parent(entry: Entry, parent: Any) -> None:
    """What an entry appeared in."""
    if not isinstance(parent, dict):
        parent = {"title": parent}
    for name, value in parent.items():
        if name == "title":
            entry.fields[_CONTAINERS.get(entry.type, "howpublished")] = str(value)
        elif name not in ("type", "parent"):
            _add(entry, str(name).lower(), value)


def _add_parts(entry: Entry, name: str, value: dict[str, Any]) -> None:
    """`publisher: {name, location}`, `url: {value, date}`, `serial-number: {doi, isbn}`."""
    if name in ("serial-number", "serial_number"):
        for part, text in value.items():
            entry.fields[str(part).lower()] = str(text)
        return
    if "location" in value:
        entry.fields["address"] = str(value["location"])
    text = value.get("name", value.get("value"))
    if text is not None:
        entry.fields[_FIELDS.get(name, name)] = str(text)
