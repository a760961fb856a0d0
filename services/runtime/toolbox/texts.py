"""Encodings of text, all loaded before the jail, for nothing can be loaded in it."""

from __future__ import annotations

import codecs
import encodings.aliases
import importlib

_NO_TEXT = frozenset({"mbcs", "oem"})


def _loaded() -> frozenset[str]:
    """Every encoding of text that this Python has, by its module's name."""
    found = set()
    for name in {*encodings.aliases.aliases.values(), "utf_8", "utf_8_sig"} - _NO_TEXT:
        try:
            importlib.import_module(f"encodings.{name}")
            is_text = codecs.lookup(name)._is_text_encoding  # noqa: SLF001 - no public name
        except (ImportError, LookupError):
            continue
        if is_text:
            found.add(name)
    return frozenset(found)


ENCODINGS = _loaded()


def known_encoding(name: str) -> str | None:
    """The name that Python gives an encoding of text; None where it is none."""
    plain = name.lower().replace("-", "_").replace(" ", "_")
    plain = encodings.aliases.aliases.get(plain, plain)
    return plain if plain in ENCODINGS else None
