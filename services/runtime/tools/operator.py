"""What the operator tells tools: servers and keys, each to the tool that needs it and no other."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from services.common.errors import Reason, ServiceError
from services.common.settings import ToolSettings
from services.runtime.tools.addresses import HostRule, parse_rules

_EVERYBODY = "*"
_POSTGRES_PORT = 5432
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database that tenants may ask by name."""

    host: str
    port: int
    name: str
    user: str
    password: str
    tls: bool
    """Whether the connection is encrypted, and the server's certificate checked."""
    write: bool
    """Whether it may be changed."""
    tenants: frozenset[str]
    """Who may ask it; `*` is everybody."""

    def told(self) -> dict[str, Any]:
        """What the tool is told."""
        return {
            "host": self.host,
            "port": self.port,
            "database": self.name,
            "user": self.user,
            "password": self.password,
            "tls": self.tls,
            "write": self.write,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Read once, when the process starts."""

    authorities: str = ""
    """Certificates, PEM."""
    mail: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    databases: Mapping[str, Database] = field(default_factory=dict)

    @classmethod
    def read(cls, settings: ToolSettings) -> OperatorSettings:
        """Read the files that the settings name.

        Raises:
            ServiceError: CONFIG_INVALID.
        """
        return cls(
            authorities=_content("authorities_file", settings.authorities_file),
            mail=_mail(settings),
            search=_search(settings),
            databases=_databases(settings.databases_file),
        )

    def of(self, tool: str, tenant: str) -> Mapping[str, Any]:
        """What one tool is told in an execution for one tenant."""
        told: dict[str, Any] = {"authorities": self.authorities} if self.authorities else {}
        if tool == "email-sender":
            return {**told, **self.mail}
        if tool == "web-searcher":
            return {**told, **self.search}
        if tool == "database-connector":
            mine = {
                name: database.told()
                for name, database in self.databases.items()
                if database.tenants & {tenant, _EVERYBODY}
            }
            return {**told, "databases": mine}
        return told

    def allowed(self) -> dict[str, tuple[HostRule, ...]]:
        """The servers above: each open to its tool, although they need not be public."""
        found: dict[str, list[tuple[str, int]]] = {}
        if self.mail:
            found["email-sender"] = [(self.mail["host"], self.mail["port"])]
        base = urlsplit(self.search.get("base_url", ""))
        if base.hostname:
            port = base.port or _PORTS.get(base.scheme, 0)
            found["web-searcher"] = [(base.hostname, port)]
        if self.databases:
            found["database-connector"] = [(one.host, one.port) for one in self.databases.values()]
        return {tool: tuple(map(_rule, servers)) for tool, servers in found.items()}


def _rule(server: tuple[str, int]) -> HostRule:
    host, port = server
    shown = f"[{host}]" if ":" in host else host
    return parse_rules(f"{shown}:{port}")[0]


def _content(setting: str, path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(setting, f"{path} cannot be read: {error}") from None


def _mail(settings: ToolSettings) -> dict[str, Any]:
    if not settings.smtp_host:
        return {}
    return {
        "host": settings.smtp_host.lower(),
        "port": settings.smtp_port,
        "security": settings.smtp_security,
        "user": settings.smtp_user,
        "password": _content("smtp_password_file", settings.smtp_password_file).strip(),
        "from": [one.strip() for one in settings.smtp_from.split(",") if one.strip()],
    }


def _search(settings: ToolSettings) -> dict[str, Any]:
    if not settings.search_provider:
        return {}
    return {
        "provider": settings.search_provider,
        "base_url": settings.search_base_url,
        "api_key": _content("search_api_key_file", settings.search_api_key_file).strip(),
    }


def _databases(path: str) -> dict[str, Database]:
    try:
        tables = tomllib.loads(_content("databases_file", path))
    except tomllib.TOMLDecodeError as error:
        raise _invalid("databases_file", f"{path} is not TOML: {error}") from None
    try:
        return {name: _database(table) for name, table in tables.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _invalid("databases_file", f"a table of {path} cannot be read: {error}") from None


def _database(table: Mapping[str, Any]) -> Database:
    """Raises KeyError, TypeError, ValueError or AttributeError where it is not as it should be."""
    unknown = table.keys() - {"dsn", "tenants", "write", "tls"}
    if unknown:
        raise ValueError(f"there is no key {min(unknown)}")
    parts: SplitResult = urlsplit(table["dsn"])
    if parts.scheme not in ("postgres", "postgresql") or not parts.hostname or not parts.username:
        raise ValueError("dsn must be postgresql://USER:PASSWORD@HOST/DATABASE")
    return Database(
        host=parts.hostname,
        port=parts.port or _POSTGRES_PORT,
        name=unquote(parts.path.lstrip("/")) or unquote(parts.username),
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        tls=bool(table.get("tls", True)),
        write=bool(table.get("write", False)),
        tenants=frozenset(map(str, table["tenants"])),
    )


def _invalid(setting: str, why: str) -> ServiceError:
    text = f"tools.{setting}: {why}."
    return ServiceError(Reason.CONFIG_INVALID, text, key=f"tools.{setting}")
