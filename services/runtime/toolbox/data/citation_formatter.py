"""citation-formatter: references of a bibliography, in the styles of pybtex."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pybtex.errors
from pybtex.backends import html, latex, markdown, plaintext
from pybtex.database import BibliographyData, Entry
from pybtex.exceptions import PybtexError
from pybtex.style.formatting import alpha, plain, unsrt, unsrtalpha
from pybtex.style.labels.alpha import LabelStyle as AlphaLabels
from pybtex.style.labels.number import LabelStyle as NumberLabels
from pybtex.style.names.lastfirst import NameStyle as LastFirstNames
from pybtex.style.names.plain import NameStyle as PlainNames
from pybtex.style.sorting.author_year_title import SortingStyle as ByAuthor
from pybtex.style.sorting.none import SortingStyle as AsCited

from services.runtime.toolbox.data import bibliographies
from services.runtime.toolbox.data.citation_styles import MANUALS, Manual, order
from services.runtime.toolbox.data.citation_works import work_of
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    field_invalid,
    not_implemented,
    parameters,
    required,
)
from services.runtime.toolbox.schema import (
    choice,
    flag,
    listing,
    mapping,
    one_of,
    record,
    text,
    whole,
)

_STYLES: dict[str, Callable[[Any], Any]] = {
    "plain": lambda names: plain.Style(NumberLabels, names, ByAuthor),
    "alpha": lambda names: alpha.Style(AlphaLabels, names, ByAuthor),
    "unsrt": lambda names: unsrt.Style(NumberLabels, names, AsCited),
    "unsrtalpha": lambda names: unsrtalpha.Style(AlphaLabels, names, AsCited),
}
"""Classes instead of names: a plug-in cannot be looked for in the jail."""
_SUPPORTED = (*MANUALS, *_STYLES)
_SYNONYMS = {"chicago": "chicago-author-date", "apa7": "apa", "mla9": "mla"}
_KNOWN_ELSEWHERE = (
    "chicago-fullnote-bibliography", "chicago-note-bibliography", "nature", "science", "acm", "ama",
    "turabian", "bluebook", "oscola", "acs", "aip", "aps",
)  # fmt: skip
"""Styles of the Citation Style Language that are not offered."""
_BACKENDS = {
    "text": plaintext.Backend("utf-8"),
    "html": html.Backend("utf-8"),
    "markdown": markdown.Backend("utf-8"),
    "latex": latex.Backend("utf-8"),
}
_REQUIRED: dict[str, tuple[str, ...]] = {
    "article": ("author", "title", "journal", "year"),
    "book": ("author|editor", "title", "publisher", "year"),
    "booklet": ("title",),
    "inbook": ("author|editor", "title", "chapter|pages", "publisher", "year"),
    "incollection": ("author", "title", "booktitle", "publisher", "year"),
    "inproceedings": ("author", "title", "booktitle", "year"),
    "manual": ("title",),
    "mastersthesis": ("author", "title", "school", "year"),
    "misc": (),
    "online": ("title", "url"),
    "patent": ("author", "title", "number", "year"),
    "phdthesis": ("author", "title", "school", "year"),
    "proceedings": ("title", "year"),
    "software": ("title",),
    "techreport": ("author", "title", "institution", "year"),
    "unpublished": ("author", "title", "note"),
}
"""What BibTeX wants of each kind; `a|b` is either."""


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    return Outcome(operation=operation, result=_OPERATIONS[operation](arguments, desk))


def _bibliography(arguments: Arguments, desk: Desk) -> tuple[BibliographyData, list[str], str]:
    if "input_file" in arguments:
        path = arguments["input_file"]
        limit = bibliographies.INPUT_BYTES_MAX
        source = desk.folder.read(path, field="input_file", limit=limit).decode(errors="replace")
    else:
        source = required(arguments, "input")
    shape = arguments.get("format") or bibliographies.detected(source)
    data, errors = bibliographies.read(source, shape)
    return data, errors, shape


def _format(arguments: Arguments, desk: Desk) -> dict[str, Any]:
    style = _SYNONYMS.get(arguments["style"].lower(), arguments["style"].lower())
    if style not in _SUPPORTED:
        if style in _KNOWN_ELSEWHERE:
            raise not_implemented(f"The style {style} is not offered; there are {_names()}.")
        raise field_invalid("style", f"must be one of {_names()}")
    data, errors, shape = _bibliography(arguments, desk)
    keys = _keys(arguments, data)
    backend = _BACKENDS[arguments["output"]]
    faults: list[str] = []
    if style in MANUALS:
        citations = _by_manual(data, keys, MANUALS[style], backend)
    else:
        names = LastFirstNames if arguments["names"] == "last-first" else PlainNames
        citations, faults = _citations(data, keys, _STYLES[style](names), backend)
    return {
        "style": style,
        "format": shape,
        "citations": citations,
        "reference_list": [one["citation"] for one in citations],
        "entry_count": len(citations),
        "warnings": [*errors, *faults],
    }


def _names() -> str:
    return ", ".join(_SUPPORTED)


def _keys(arguments: Arguments, data: BibliographyData) -> list[str]:
    """What is cited: all that is asked for, or all there is."""
    asked = arguments.get("cite_keys")
    if not asked:
        return list(data.entries.keys())
    keys = asked if isinstance(asked, list) else [key.strip() for key in asked.split(",")]
    for key in keys:
        if key not in data.entries:
            raise field_invalid("cite_keys", f"names {key[:100]!r}, which is no entry")
    return list(dict.fromkeys(keys))


def _citations(
    data: BibliographyData, keys: list[str], style: Any, backend: Any
) -> tuple[list[dict[str, str]], list[str]]:
    with pybtex.errors.capture() as errors:
        try:
            citations = [
                {"key": one.key, "label": one.label, "citation": one.text.render(backend)}
                for one in style.format_bibliography(data, keys)
            ]
        except (PybtexError, AttributeError) as error:
            raise _unformattable(data, keys, error) from None
    return citations, [" ".join(str(error).split())[:300] for error in errors]


def _by_manual(
    data: BibliographyData, keys: list[str], manual: Manual, backend: Any
) -> list[dict[str, str]]:
    works = [(key, work_of(data.entries[key])) for key in keys]
    for key, work in works:
        if not work.title and not work.authors:
            raise field_invalid("input", f"has an entry {key[:100]} without title and author")
    if not manual.is_numeric:
        works.sort(key=lambda one: order(one[1]))
    return [
        {
            "key": key,
            "label": manual.label(work, at),
            "citation": manual.reference(work).render(backend),
        }
        for at, (key, work) in enumerate(works, 1)
    ]


def _unformattable(data: BibliographyData, keys: list[str], error: Exception) -> ToolError:
    for key in keys:
        if data.entries[key].type not in _REQUIRED:
            kind = data.entries[key].type
            return field_invalid("input", f"has an entry {key[:100]} of the unknown type {kind}")
    return field_invalid("input", f"cannot be formatted: {str(error)[:300]}")


def _validate(arguments: Arguments, desk: Desk) -> dict[str, Any]:
    data, errors, shape = _bibliography(arguments, desk)
    results = [_checked(key, entry) for key, entry in data.entries.items()]
    valid = sum(one["valid"] for one in results)
    return {
        "format": shape,
        "total_entries": len(results),
        "valid_entries": valid,
        "warnings": len(errors),
        "validation_results": results,
        "is_valid": valid == len(results) and not errors,
        "errors": errors,
    }


def _checked(key: str, entry: Entry) -> dict[str, Any]:
    known = {name.lower() for name in (*entry.fields, *entry.persons)}
    issues = [
        f"{' or '.join(needed.split('|'))} is missing"
        for needed in _REQUIRED.get(entry.type, ())
        if not known & set(needed.split("|"))
    ]
    if entry.type not in _REQUIRED:
        issues.append(f"{entry.type} is no known type")
    year = entry.fields.get("year", "")
    if year and not year.strip().isdecimal():
        issues.append(f"year is {year[:50]!r}, which is no number")
    return {"key": key, "valid": not issues, "issues": issues, "entry_type": entry.type}


def _list_styles(_: Arguments, __: Desk) -> dict[str, Any]:
    return {
        "supported_styles": list(_SUPPORTED),
        "total_available": len(_SUPPORTED),
        "categories": {
            "author_date": ["apa", "chicago-author-date", "harvard", "mla"],
            "numeric": ["ieee", "vancouver", "plain", "unsrt"],
            "label": ["alpha", "unsrtalpha"],
        },
        "note": "plain and alpha go by authors, unsrt and unsrtalpha by the order of citation.",
    }


_OPERATIONS: dict[str, Callable[[Arguments, Desk], dict[str, Any]]] = {
    "format_citation": _format,
    "validate_bibliography": _validate,
    "list_styles": _list_styles,
}

TOOLS = (
    Tool(
        name="citation-formatter",
        description="Formats the references of a bibliography, and checks it.",
        category="utility",
        level=Level.SAFE,
        needs=frozenset({Need.FILES}),
        synonyms={
            "bibliography": "input",
            "text": "input",
            "content": "input",
            "data": "input",
            "keys": "cite_keys",
            "path": "input_file",
            "file": "input_file",
        },
        parameters=parameters(
            (),
            operation=choice("What to do.", *_OPERATIONS, default="format_citation"),
            input=text("The bibliography."),
            input_file=text("A file that holds it, instead of `input`."),
            format=choice("What it is written in; told by itself otherwise.", "bibtex", "yaml"),
            style=text(f"One of {_names()}.", default="apa"),
            cite_keys={
                "type": ["string", "array"],
                "items": {"type": "string"},
                "description": "Keys of entries, as a list or with commas between; default all.",
            },
            output=choice("How references are written.", *_BACKENDS, default="text"),
            names=choice(
                "Order of names in pybtex's styles.", "plain", "last-first", default="plain"
            ),
        ),
        result=one_of(
            record(
                "Of format_citation.",
                ("style", "format", "citations", "reference_list", "entry_count"),
                style=text("The style."),
                format=text("What the bibliography is written in."),
                citations=listing(
                    "Each reference, in the order of the style.",
                    record(
                        "",
                        ("key", "label", "citation"),
                        key=text("Its key."),
                        label=text("What stands for it in a text."),
                        citation=text("The reference."),
                    ),
                ),
                reference_list=listing("The references alone.", text("One.")),
                entry_count=whole("How many."),
                warnings=listing("What was missing or wrong.", text("One.")),
            ),
            record(
                "Of validate_bibliography.",
                ("format", "total_entries", "valid_entries", "is_valid"),
                format=text("What it is written in."),
                total_entries=whole("Entries."),
                valid_entries=whole("Those that have all they need."),
                warnings=whole("Faults of the text itself."),
                validation_results=listing(
                    "Of each entry: key, valid, issues, entry_type.", mapping("One.", {})
                ),
                is_valid=flag("Whether all is right."),
                errors=listing("Those faults.", text("One.")),
            ),
            record(
                "Of list_styles.",
                ("supported_styles",),
                supported_styles=listing("Names of styles.", text("One.")),
                total_available=whole("How many."),
                categories=mapping("Names by what stands in the text.", {}),
                note=text("How they differ."),
            ),
        ),
        notes="plain, alpha, unsrt and unsrtalpha are pybtex's; the others follow their manuals "
        "for the usual kinds of works, not in their rarer rules. Further styles of the Citation "
        "Style Language answer NOT_IMPLEMENTED. YAML is pybtex's, or Hayagriva's without aliases.",
        run=_run,
    ),
)


def _load_what_is_loaded_late() -> None:
    """Format once outside the jail, where libraries can still be loaded."""
    sample = "@article{a, author={A. B}, title={{\\'E}}, journal={J}, year=1, pages={1--2}}"
    data, _ = bibliographies.read(sample, "bibtex")
    for style in _STYLES.values():
        for backend in _BACKENDS.values():
            _citations(data, ["a"], style(PlainNames), backend)


_load_what_is_loaded_late()
