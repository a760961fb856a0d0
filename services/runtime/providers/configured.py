"""The operator's providers: a TOML file with a table for each, beside the presets.

Keys are never in it: a table names the file or the variable of the environment that has one. They
are read once, when the process starts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.common.errors import Reason, ServiceError, field_invalid
from services.common.settings import ProviderSettings
from services.runtime.providers.presets import KINDS, PRESETS, Place

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")
_URL_LENGTH_MAX = 2048
_KNOWN = frozenset(
    {"kind", "base_url", "api_key_file", "api_key_variable", "tenant_key_files", "tenants",
     "enabled", "local", "needs_key", "headers", "models", "images", "tools", "json_schema"}
)  # fmt: skip


def places(settings: ProviderSettings, environment: Mapping[str, str]) -> dict[str, Place]:
    """The providers of a deployment, by name.

    Raises:
        ServiceError: CONFIG_INVALID.
    """
    found = dict(PRESETS)
    for name, table in _tables(settings.file).items():
        if not _NAME.fullmatch(name):
            raise _invalid(settings.file, name, "is no name: a-z, 0-9, `.`, `_`, `-`")
        found[name] = _place(settings.file, name, table)
    for name in settings.off_names:
        if name not in found:
            raise _invalid("the settings", "providers.off", f"has {name}, which is none")
        del found[name]
    return {
        name: replace(place, key=place.key or _key_in(environment, place.key_variable))
        for name, place in found.items()
    }


def _key_in(environment: Mapping[str, str], variable: str) -> str:
    """The key in a variable; what cannot be one counts as none."""
    key = environment.get(variable, "").strip()
    return key if _KEY.fullmatch(key) else ""


def checked_base_url(base_url: str) -> str:
    """An address as it is compared and asked.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise field_invalid("base_url", "is no address") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise field_invalid("base_url", "must begin with http:// or https:// and name a host")
    if parts.username or parts.password or parts.query or parts.fragment or "?" in base_url:
        raise field_invalid("base_url", "must have no user, password, query or fragment")
    if len(base_url) > _URL_LENGTH_MAX or port == 0 or not base_url.isprintable():
        raise field_invalid("base_url", "is no address")
    return base_url.rstrip("/")


def checked_key(key: str) -> str:
    """A key that fits into a header.

    Raises:
        ServiceError: FIELD_INVALID, which does not tell it.
    """
    if not _KEY.fullmatch(key):
        raise field_invalid("api_key", "must be printable characters of ASCII without blanks")
    return key


def _tables(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        text = f"providers.file: {path} cannot be read: {error}."
        raise ServiceError(Reason.CONFIG_INVALID, text, key="providers.file") from None


def _place(path: str, name: str, table: Any) -> Place:
    if not isinstance(table, dict):
        raise _invalid(path, name, f"must be a table, written as [{name}]")
    unknown = min(table.keys() - _KNOWN, default="")
    if unknown:
        raise _invalid(path, f"{name}.{unknown}", f"is not known; there are {sorted(_KNOWN)}")
    reading = _Reading(path, name, table)
    start = PRESETS.get(name, Place(name=name, needs_key=False))
    base_url = reading.text("base_url") or start.base_url
    place = replace(
        start,
        kind=reading.text("kind") or start.kind,
        base_url=reading.address(base_url),
        key_variable=reading.text("api_key_variable") or start.key_variable,
        enabled=reading.truth("enabled", default=True),
        headers=reading.texts("headers"),
        models=tuple(reading.names("models")),
        tenants=frozenset(reading.names("tenants")) or start.tenants,
        key=reading.content(reading.text("api_key_file")),
        tenant_keys={
            tenant: reading.content(file)
            for tenant, file in reading.texts("tenant_key_files").items()
        },
        capabilities=reading.capabilities(start),
    )
    if place.kind not in KINDS:
        raise _invalid(path, f"{name}.kind", f"must be one of {', '.join(KINDS)}")
    named_a_key = table.keys() & {"api_key_file", "api_key_variable", "tenant_key_files"}
    needs_key = reading.truth("needs_key", default=start.needs_key or bool(named_a_key))
    return replace(place, needs_key=needs_key)


class _Reading:
    """The values of one table."""

    def __init__(self, path: str, name: str, table: dict[str, Any]) -> None:
        self._path, self._name, self._table = path, name, table

    def text(self, key: str) -> str:
        return str(self._checked(key, self._table.get(key, ""), str, "text in quotes"))

    def truth(self, key: str, *, default: bool) -> bool:
        return bool(self._checked(key, self._table.get(key, default), bool, "true or false"))

    def names(self, key: str) -> list[str]:
        listed: list[str] = self._checked(key, self._table.get(key, []), list, "a list of names")
        return [self._checked(key, entry, str, "a list of names") for entry in listed]

    def texts(self, key: str) -> dict[str, str]:
        told: dict[str, str] = self._checked(key, self._table.get(key, {}), dict, "a table")
        return {name: self._checked(key, entry, str, "a table") for name, entry in told.items()}

    def address(self, base_url: str) -> str:
        try:
            return checked_base_url(base_url) if base_url else ""
        except ServiceError as error:
            rule = error.metadata["rule"]
            raise _invalid(self._path, f"{self._name}.base_url", rule) from None

    def content(self, path: str) -> str:
        """The key in a file."""
        if not path:
            return ""
        try:
            return checked_key(Path(path).read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError, ServiceError):
            raise _invalid(self._path, self._name, f"names {path}, which has no key") from None

    def capabilities(self, start: Place) -> Any:
        can = start.capabilities
        return replace(
            can,
            multimodal=self.truth("images", default=can.multimodal),
            tools=self.truth("tools", default=can.tools),
            json_schema=self.truth("json_schema", default=can.json_schema),
            local=self.truth("local", default=can.local),
        )

    def _checked(self, key: str, value: Any, kind: type, words: str) -> Any:
        if not isinstance(value, kind):
            raise _invalid(self._path, f"{self._name}.{key}", f"must be {words}")
        return value


def _invalid(path: str, key: str, rule: str) -> ServiceError:
    text = f"{path}: {key} {rule}."
    return ServiceError(Reason.CONFIG_INVALID, text, file=path, key=key)
