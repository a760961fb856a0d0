"""What looks like a credential, taken out of what is told: logs, errors, events, exports.

Two ways in which something looks like one: its name (`password`, `api_key`, `Authorization`, also
within a name such as `openai_api_key`), then all of its value goes; or its form (`sk-…`, `llms_…`,
AWS's and GitHub's keys, JSON Web Tokens, PEM blocks, `Bearer …`, a password in an address), then
that part of a text goes. What is only a long number, an id or a digest stays. It is the last of
several lines of defence and no proof: a secret that has neither a telling name nor a telling form
is not known for one.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any

REDACTED = "[REDACTED]"

_DEPTH_MAX = 32
_NAME_LENGTH_MAX = 200

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_NAMES = frozenset(
    {
        "password", "passwd", "passphrase", "pwd", "secret", "secrets", "apikey", "credential",
        "credentials", "authorization", "cookie", "privatekey", "secretkey", "accesskey", "token",
        "bearer",
    }
)  # fmt: skip
_PAIRS = frozenset(
    {
        ("api", "key"), ("private", "key"), ("secret", "key"), ("access", "key"),
        ("signing", "key"), ("encryption", "key"), ("master", "key"), ("operator", "key"),
        ("context", "key"), ("data", "key"), ("auth", "key"), ("pass", "word"), ("pass", "phrase"),
        ("access", "tokens"), ("refresh", "tokens"), ("auth", "tokens"),
    }
)  # fmt: skip
_PUBLIC = frozenset(
    {"count", "counts", "id", "ids", "limit", "max", "min", "usage", "length", "type", "kind",
     "file", "path", "total", "used", "budget", "bytes", "name", "names", "version", "page", "next",
     "size"}
)  # fmt: skip
"""A word after which the name tells of a secret and is none: `token_count`, `api_key_id`."""

_PEM = re.compile(
    r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY[A-Z ]*)-----.*?(?:-----END \1-----|\Z)", re.DOTALL
)
_FORMS = re.compile(
    r"""
    (?<![A-Za-z0-9])
    (?: sk-(?:[A-Za-z0-9]+-)*[A-Za-z0-9_-]{16,}              # OpenAI, Anthropic
      | llms_[A-Za-z0-9]+_[A-Za-z0-9_-]{16,}                # our own
      | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])  # AWS
      | gh[pousr]_[A-Za-z0-9]{30,} | github_pat_[A-Za-z0-9_]{30,} | glpat-[A-Za-z0-9_-]{16,}
      | xox[abeoprs]-[A-Za-z0-9-]{10,}                       # Slack
      | AIza[A-Za-z0-9_-]{35} | ya29\.[A-Za-z0-9_-]{20,}      # Google
      | [rsp]k_(?:live|test)_[A-Za-z0-9]{16,} | whsec_[A-Za-z0-9+/=]{16,}  # Stripe
      | hf_[A-Za-z0-9]{30,} | npm_[A-Za-z0-9]{30,} | pypi-[A-Za-z0-9_-]{40,}
      | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*            # JSON Web Token
    )
    """,
    re.VERBOSE,
)
_AFTER_WORD = re.compile(
    r"""
    (\b(?:bearer|basic)\s+)(?=[A-Za-z._~+/=-]{0,200}[0-9]|[A-Za-z._~+/=-]{20})[A-Za-z0-9._~+/=-]{8,}
    | (\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{0,200}:)[^\s/@]{1,200}(?=@)
    | (?<![A-Za-z])((?:[A-Za-z0-9]{1,40}[_-]){0,4}
        (?:password|passwd|passphrase|pwd|secret|api[_-]?key|private[_-]?key|secret[_-]?key
          |access[_-]?key|master[_-]?key|token|authorization)
        ["']?\s{0,3}[=:]\s{0,3}["']?)
      (?!\[REDACTED\]|bearer\s|basic\s)[^\s"',;&\[\]{}()]{4,}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_HINTS = re.compile(
    r"sk-|llms_|akia|asia|abia|acca|gh[pousr]_|github_|glpat|xox|aiza|ya29|k_live|k_test|whsec|hf_"
    r"|npm_|pypi-|eyj|-----b|://|bearer|basic|pass|pwd|secret|key|token|authoriz|cookie|credential"
)
"""What any of the above has in it, whatever its case; a text without is as it was. It is looked for
in a text of small letters: a search that minds no case takes four times as long."""


def redact(value: Any, *, depth: int = 0) -> Any:
    """The value with what looks like a credential replaced by `[REDACTED]`; a copy where it was.

    Args:
        value: Text, bytes, numbers, lists and maps of them; what is anything else comes back.
        depth: How deep it stands; below 32 nothing is looked at any more and all is taken out.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        text = value.decode("latin-1")
        clean = redact_text(text)
        return value if clean is text else clean.encode("latin-1")
    if isinstance(value, Mapping | list | tuple):
        return REDACTED if depth > _DEPTH_MAX else _redact_inside(value, depth + 1)
    return value


def _redact_inside(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {key: redact_field(key, inner, depth=depth) for key, inner in value.items()}
    clean = [redact(inner, depth=depth) for inner in value]
    return clean if isinstance(value, list) else tuple(clean)


def redact_field(name: object, value: Any, *, depth: int = 0) -> Any:
    """The value of a field, of which its name may tell that it is a credential."""
    # Numbers and truth values are counts and switches.
    if is_credential_name(name) and not isinstance(value, bool | int | float | NoneType):
        return REDACTED
    return redact(value, depth=depth)


def may_hold_credential(text: str) -> bool:
    """Whether a text, or one of several that are joined, needs a closer look; quick to say.

    JSON may write any letter as a number, so that one with such letters does.
    """
    return _HINTS.search(text.casefold()) is not None or "\\u" in text


def redact_text(text: str) -> str:
    """A text without those parts that have the form of a credential."""
    if not may_hold_credential(text):
        return text
    clean = _PEM.sub(REDACTED, text)
    clean = _FORMS.sub(REDACTED, clean)
    clean = _AFTER_WORD.sub(lambda found: f"{found[1] or found[2] or found[3]}{REDACTED}", clean)
    return text if clean == text else clean


def redact_json(document: str) -> str:
    """A JSON document likewise; the same text where there is nothing in it to take out.

    Raises:
        ValueError: it is no JSON.
    """
    if not may_hold_credential(document):
        return document
    value = json.loads(document)
    clean = redact(value)
    return document if clean == value else json.dumps(clean, ensure_ascii=False)


def is_credential_name(name: object) -> bool:
    """Whether a field of this name holds a credential, as far as names tell."""
    if not isinstance(name, str):
        return False
    words = [word.lower() for word in _WORDS.findall(name[-_NAME_LENGTH_MAX:])]
    if not words or words[-1] in _PUBLIC:
        return False
    pairs = set(itertools.pairwise(words))
    return not (_NAMES.isdisjoint(words) and _PAIRS.isdisjoint(pairs))
