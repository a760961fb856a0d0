"""What a reference needs of an entry, as plain text, whatever its style."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pybtex.database import Entry, Person
from pybtex.richtext import Text

EN_DASH = "\N{EN DASH}"

_THESES = {"phdthesis": "Doctoral dissertation", "mastersthesis": "Master's thesis"}
_PARTS = ("incollection", "inproceedings", "inbook", "conference")


@dataclass(frozen=True, slots=True)
class Name:
    """A person's name."""

    last: str
    """With particles and `Jr.`; the whole of an organisation's name."""
    first: tuple[str, ...]
    """First names, one by one."""

    @property
    def initials(self) -> str:
        """`Alan Mathison` is `A. M.`; `Jean-Paul` is `J.-P.`."""
        return " ".join(
            "-".join(f"{part[0]}." for part in name.split("-") if part) for name in self.first
        )

    @property
    def full_first(self) -> str:
        """First names in full."""
        return " ".join(self.first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One entry. What it has not is empty."""

    kind: str
    """article, book, part, thesis, report or other."""
    authors: tuple[Name, ...]
    """Authors, or editors where there are none."""
    by_editors: bool
    """Whether `authors` are editors."""
    editors: tuple[Name, ...]
    """Editors of what it is a part of."""
    title: str
    container: str
    """Journal, or the book that it is a part of."""
    year: str
    month: str
    volume: str
    number: str
    pages: str
    """With an en dash."""
    publisher: str
    """Or the institution, school or organisation."""
    address: str
    edition: str
    thesis: str
    """What kind of thesis."""
    doi: str
    url: str

    @property
    def link(self) -> str:
        """The DOI as an address, or the address."""
        return f"https://doi.org/{self.doi}" if self.doi else self.url


def work_of(entry: Entry) -> Work:
    """The entry's facts."""
    authors = _names(entry.persons.get("author", ()))
    editors = _names(entry.persons.get("editor", ()))
    known = {name.lower(): _plain(value) for name, value in entry.fields.items()}

    def first(*names: str) -> str:
        return next((known[name] for name in names if known.get(name)), "")

    return Work(
        kind=_kind(entry.type),
        authors=authors or editors,
        by_editors=not authors and bool(editors),
        editors=editors if authors else (),
        title=first("title"),
        container=first("journal", "booktitle", "journaltitle"),
        year=first("year") or first("date")[:4],
        month=first("month"),
        volume=first("volume"),
        number=first("number"),
        pages=re.sub(r"\s*(?:--+|-|\u2013)\s*", EN_DASH, first("pages")),
        publisher=first("publisher", "institution", "school", "organization", "howpublished"),
        address=first("address", "location"),
        edition=first("edition"),
        thesis=_THESES.get(entry.type, ""),
        doi=re.sub(r"^(?:https?://(?:dx\.)?doi\.org/|doi:\s*)", "", first("doi")),
        url=first("url"),
    )


def _kind(entry_type: str) -> str:
    if entry_type in _PARTS:
        return "part"
    if entry_type in _THESES:
        return "thesis"
    return {"article": "article", "techreport": "report", "report": "report"}.get(
        entry_type, "book" if entry_type in ("book", "proceedings", "booklet") else "other"
    )


def _names(persons: Any) -> tuple[Name, ...]:
    return tuple(_name(person) for person in persons)


def _name(person: Person) -> Name:
    last = " ".join([*person.prelast_names, *person.last_names, *person.lineage_names])
    first = [*person.first_names, *person.middle_names]
    return Name(_plain(last), tuple(filter(None, map(_plain, first))))


def _plain(latex: str) -> str:
    return " ".join(str(Text.from_latex(latex)).replace("\N{NO-BREAK SPACE}", " ").split())
