"""References as the common manuals have them, of what pybtex has read.

They follow the manuals for articles, books, parts of books, theses, reports and pages of the web.
Their rarer rules, such as for legal texts or for more than twenty authors, are not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pybtex.richtext import String, Tag, Text

from services.runtime.toolbox.data.citation_works import Name, Work

_ORDINALS = {
    "first": "1st", "second": "2nd", "third": "3rd", "fourth": "4th", "fifth": "5th",
    "sixth": "6th", "seventh": "7th", "eighth": "8th", "ninth": "9th", "tenth": "10th",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Manual:
    """One style."""

    reference: Callable[[Work], Text]
    """What stands in the list."""
    label: Callable[[Work, int], str]
    """What stands in the text; the number counts from 1."""
    is_numeric: bool
    """Whether the list is in the order of citation; otherwise in that of names."""


def _em(text: str) -> Text:
    return Text(Tag("em", text)) if text else Text()


def _join(separator: str, *parts: Text | str) -> Text:
    """Those that are not empty."""
    kept = [part if isinstance(part, Text) else Text(part) for part in parts if len(part)]
    return Text(String(separator).join(kept))


def _sentences(*parts: Text | str) -> Text:
    return _join(" ", *(_closed(part) for part in parts if len(part)))


def _closed(part: Text | str) -> Text:
    """With a full stop, unless it ends; an address never does."""
    text = part if isinstance(part, Text) else Text(part)
    plain = str(text)
    ended = plain.endswith((".", "?", "!", ".\u201d", "?\u201d", "!\u201d"))
    return text if ended or "://" in plain.rsplit(" ", 1)[-1] else Text(text, ".")


def _quoted(text: str, end: str) -> str:
    """In English quotation marks, with the mark that follows inside."""
    if not text:
        return ""
    return f"\u201c{text}{'' if text.endswith(('?', '!')) else end}\u201d"


def _listed(names: Sequence[str], last: str, separator: str = ", ") -> str:
    """`a, b<last>c`."""
    if len(names) < 2:  # noqa: PLR2004 - one is alone
        return "".join(names)
    return separator.join(names[:-1]) + last + names[-1]


def _edition(work: Work, word: str = "ed.") -> str:
    edition = work.edition.strip()
    if not edition:
        return ""
    if edition.isdecimal():
        number = int(edition)
        teen = number % 100 // 10 == 1
        ending = {1: "st", 2: "nd", 3: "rd"}.get(0 if teen else number % 10, "th")
        return f"{number}{ending} {word}"
    return f"{_ORDINALS.get(edition.lower(), edition)} {word}"


def _issue(work: Work) -> str:
    return f"({work.number})" if work.number else ""


def _last_first(name: Name, *, short: bool) -> str:
    return ", ".join(filter(None, (name.last, name.initials if short else name.full_first)))


def _first_last(name: Name, *, short: bool) -> str:
    return " ".join(filter(None, (name.initials if short else name.full_first, name.last)))


def _publisher(work: Work) -> str:
    return ": ".join(filter(None, (work.address, work.publisher)))


def _pages(work: Work, one: str = "p. ", several: str = "pp. ") -> str:
    """With what stands before them."""
    if not work.pages:
        return ""
    return (several if any(sign in work.pages for sign in "\u2013,+") else one) + work.pages


# American Psychological Association, 7th edition.


def _apa(work: Work) -> Text:
    names = _listed([_last_first(name, short=True) for name in work.authors], ", & ")
    if work.by_editors:
        names += " (Eds.)" if len(work.authors) > 1 else " (Ed.)"
    date = f"({work.year or 'n.d.'})"
    title = _apa_title(work)
    head = [_join(" ", _closed(names), date), title] if names else [title, date]
    return _sentences(*head, _apa_source(work), work.link)


def _apa_title(work: Work) -> Text:
    if work.kind in ("article", "part"):
        return Text(work.title)
    note = f"({_edition(work)})" if work.edition else ""
    if work.kind == "report" and work.number:
        note = f"(Report No. {work.number})"
    if work.kind == "thesis":
        note = f"[{', '.join(filter(None, (work.thesis, work.publisher)))}]"
    return _join(" ", _em(work.title), note)


def _apa_source(work: Work) -> Text:
    if work.kind == "article":
        volume = Text(_em(work.volume), _issue(work))
        return _join(", ", _em(work.container), volume, work.pages)
    if work.kind == "part":
        editors = _listed([_first_last(name, short=True) for name in work.editors], " & ")
        role = "" if not editors else " (Eds.)" if len(work.editors) > 1 else " (Ed.)"
        pages = f"({_pages(work)})" if work.pages else ""
        book = _join(" ", _em(work.container), pages)
        return _sentences(Text("In ", _join(", ", editors + role, book)), work.publisher)
    return Text() if work.kind == "thesis" else Text(work.publisher)


# Modern Language Association, 9th edition.


def _mla(work: Work) -> Text:
    names = _mla_names(work.authors)
    if work.by_editors:
        names += ", editors" if len(work.authors) > 1 else ", editor"
    if work.kind in ("article", "part"):
        return _sentences(names, _quoted(work.title, "."), _mla_container(work))
    last = _join(", ", _edition(work), work.thesis, work.publisher, work.year, work.link)
    return _sentences(names, _em(work.title), last)


def _mla_names(names: Sequence[Name]) -> str:
    if not names:
        return ""
    first = _last_first(names[0], short=False)
    if len(names) == 1:
        return first
    if len(names) == 2:  # noqa: PLR2004 - a third is `et al.`
        return f"{first}, and {_first_last(names[1], short=False)}"
    return f"{first}, et al."


def _mla_container(work: Work) -> Text:
    editors = _listed([_first_last(name, short=False) for name in work.editors], " and ")
    return _join(
        ", ",
        _em(work.container),
        f"edited by {editors}" if editors else "",
        f"vol. {work.volume}" if work.volume else "",
        f"no. {work.number}" if work.number else "",
        work.publisher,
        work.year,
        _pages(work),
        work.link,
    )


# The Chicago Manual of Style, author and date.


def _chicago(work: Work) -> Text:
    shown = [_last_first(name, short=False) for name in work.authors[:1]]
    shown += [_first_last(name, short=False) for name in work.authors[1:]]
    names = _listed(shown, ", and ")
    if work.by_editors:
        names += ", eds." if len(work.authors) > 1 else ", ed."
    year = work.year or "n.d."
    if work.kind == "article":
        volume = _join(" ", _em(work.container), work.volume, _issue(work))
        source = _join(": ", volume, work.pages)
        return _sentences(names, year, _quoted(work.title, "."), source, work.link)
    if work.kind == "part":
        editors = _listed([_first_last(name, short=False) for name in work.editors], " and ")
        edited = f"edited by {editors}" if editors else ""
        source = Text("In ", _join(", ", _em(work.container), edited, work.pages))
        parts = (_quoted(work.title, "."), source, _publisher(work))
        return _sentences(names, year, *parts, work.link)
    if work.kind == "thesis":
        source = _join(", ", work.thesis, work.publisher)
        return _sentences(names, year, _quoted(work.title, "."), source, work.link)
    return _sentences(names, year, _em(work.title), _edition(work), _publisher(work), work.link)


# Harvard, as in Cite Them Right.


def _harvard(work: Work) -> Text:
    shown = [_last_first(name, short=True).replace(". ", ".") for name in work.authors]
    names = _listed(shown, " and ")
    if work.by_editors:
        names += " (eds.)" if len(work.authors) > 1 else " (ed.)"
    head = _join(" ", names, f"({work.year or 'no date'})")
    title = f"\u2018{work.title}\u2019"
    if work.kind == "article":
        volume = work.volume + _issue(work)
        source = _join(", ", title, _em(work.container), volume, _pages(work))
        return _sentences(_join(" ", head, source), _available(work))
    if work.kind == "part":
        editors = _listed(
            [_last_first(name, short=True).replace(". ", ".") for name in work.editors], " and "
        )
        role = "" if not editors else " (eds.)" if len(work.editors) > 1 else " (ed.)"
        book = Text("in ", _join(" ", editors + role, _em(work.container)))
        inside = _join(" ", head, _join(", ", title, book))
        last = _join(", ", _publisher(work), _pages(work))
        return _sentences(inside, last, _available(work))
    book = _join(" ", head, _em(work.title))
    parts = (_edition(work, "edn."), work.thesis, _publisher(work))
    return _sentences(book, *parts, _available(work))


def _available(work: Work) -> str:
    return f"Available at: {work.link}" if work.link else ""


# IEEE.


def _ieee(work: Work) -> Text:
    shown = [_first_last(name, short=True) for name in work.authors]
    names = _listed(shown, ", and " if len(shown) > 2 else " and ")  # noqa: PLR2004 - two: no comma
    if work.by_editors:
        names += ", Eds." if len(shown) > 1 else ", Ed."
    date = " ".join(filter(None, (work.month, work.year)))
    last = f"doi: {work.doi}" if work.doi else work.url
    if work.kind == "article":
        details = (
            _em(work.container),
            f"vol. {work.volume}" if work.volume else "",
            f"no. {work.number}" if work.number else "",
            _pages(work),
        )
        return _closed(_ieee_part(names, work, _join(", ", *details, date, last)))
    if work.kind == "part":
        book = Text("in ", _em(work.container))
        source = _join(", ", book, _publisher(work), date, _pages(work), last)
        return _closed(_ieee_part(names, work, source))
    if work.kind == "thesis":
        source = _join(", ", work.thesis, work.publisher, work.address, date, last)
        return _closed(_ieee_part(names, work, source))
    book = _join(", ", names, _em(work.title), _edition(work))
    return _sentences(book, _join(", ", _publisher(work), date, last))


def _ieee_part(names: str, work: Work, source: Text) -> Text:
    head = _join(", ", names, _quoted(work.title, ","))
    return _join(" ", head, source)


# Vancouver, as in Citing Medicine.


def _vancouver(work: Work) -> Text:
    names = ", ".join(_vancouver_name(name) for name in work.authors)
    if work.by_editors:
        names += ", editors" if len(work.authors) > 1 else ", editor"
    pages = work.pages.replace("\u2013", "-")
    last = f"doi: {work.doi}" if work.doi else work.url
    if work.kind == "article":
        volume = work.volume + _issue(work)
        where = ":".join(filter(None, (volume, pages)))
        return _sentences(
            names, work.title, work.container, ";".join(filter(None, (work.year, where))), last
        )
    source = "; ".join(filter(None, (_publisher(work), work.year)))
    if work.kind == "part":
        editors = ", ".join(_vancouver_name(name) for name in work.editors)
        role = "" if not editors else ", editors. " if len(work.editors) > 1 else ", editor. "
        parts = (f"In: {editors}{role}{work.container}", source, f"p. {pages}" if pages else "")
        return _sentences(names, work.title, *parts, last)
    kind = f" [{work.thesis}]" if work.thesis else ""
    return _sentences(names, work.title + kind, _edition(work), source, last)


def _vancouver_name(name: Name) -> str:
    initials = name.initials.replace(".", "").replace(" ", "").replace("-", "")
    return " ".join(filter(None, (name.last, initials)))


def _by_names(separator: str, joint: str, *, year: bool = True) -> Callable[[Work, int], str]:
    """A label such as `(Knuth, 1984)`."""

    def label(work: Work, _: int) -> str:
        names = [name.last for name in work.authors]
        if not names:
            shown = work.title
        elif len(names) > 2:  # noqa: PLR2004 - a third is `et al.`
            shown = f"{names[0]} et al."
        else:
            shown = joint.join(names)
        return f"({separator.join(filter(None, (shown, work.year if year else '')))})"

    return label


def _number(_: Work, number: int) -> str:
    return f"[{number}]"


def _plain_number(_: Work, number: int) -> str:
    return f"({number})"


MANUALS = {
    "apa": Manual(_apa, _by_names(", ", " & "), is_numeric=False),
    "mla": Manual(_mla, _by_names(" ", " and ", year=False), is_numeric=False),
    "chicago-author-date": Manual(_chicago, _by_names(" ", " and "), is_numeric=False),
    "harvard": Manual(_harvard, _by_names(", ", " and "), is_numeric=False),
    "ieee": Manual(_ieee, _number, is_numeric=True),
    "vancouver": Manual(_vancouver, _plain_number, is_numeric=True),
}
"""Styles by the names that the Citation Style Language has for them."""


def order(work: Work) -> tuple[list[str], str, str]:
    """What a list by names goes by: names, or the title; then the year."""
    names = [f"{name.last} {name.full_first}".casefold() for name in work.authors]
    return names or [work.title.casefold()], work.year, work.title.casefold()
