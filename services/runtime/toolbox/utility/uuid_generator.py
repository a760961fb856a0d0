"""uuid-generator: identifiers by RFC 9562, random or made of names."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable
from typing import Any

from services.runtime.toolbox import clock
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Outcome,
    Tool,
    field_invalid,
    field_required,
    parameters,
    required,
)
from services.runtime.toolbox.schema import choice, flag, one_of, record, text, whole

_NAMESPACES = {
    "dns": uuid.NAMESPACE_DNS,
    "url": uuid.NAMESPACE_URL,
    "oid": uuid.NAMESPACE_OID,
    "x500": uuid.NAMESPACE_X500,
    "agent": uuid.UUID("6ba13d5a-3f5d-4a5b-9f7e-3d5a2f4d3a2b"),
    "tool": uuid.UUID("7cb24e6b-4f6e-5b6c-af8f-4e6b3f5e4b3c"),
    "workflow": uuid.UUID("8dc35f7c-5f7f-6c7d-bf9f-5f7c4f6f5c4d"),
}
_FORMATS: dict[str, Callable[[uuid.UUID], str]] = {
    "standard": str,
    "hyphenated": str,
    "simple": lambda made: made.hex,
    "urn": lambda made: made.urn,
    "braced": lambda made: f"{{{made}}}",
}
_HEX = "[0-9a-fA-F]"
_WRITTEN = re.compile(
    rf"(?:urn:uuid:)?(?P<dashed>{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})"
    rf"|\{{(?P<braced>{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})\}}"
    rf"|(?P<simple>{_HEX}{{32}})"
)
_VARIANTS = {
    uuid.RESERVED_NCS: "ncs",
    uuid.RFC_4122: "rfc4122",
    uuid.RESERVED_MICROSOFT: "microsoft",
    uuid.RESERVED_FUTURE: "future",
}
_SHORT_LENGTH = 8
_LABEL = {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,100}$"}


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    del desk
    operation = arguments["operation"]
    return Outcome(operation=operation, result=_OPERATIONS[operation](arguments))


def _generate(arguments: Arguments) -> dict[str, Any]:
    version, shape = arguments["version"], arguments["format"]
    made = _version_5(arguments) if version == "v5" else _RANDOM[version]()
    return {"uuid": _FORMATS[shape](made), "version": version, "format": shape}


def _version_1() -> uuid.UUID:
    # A node made up, marked as such, instead of the machine's network address.
    node = secrets.randbits(48) | 1 << 40
    return uuid.uuid1(node=node, clock_seq=secrets.randbits(14))


def _version_7() -> uuid.UUID:
    milliseconds = int(clock.now().timestamp() * 1000)
    number = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62
    return uuid.UUID(int=number | secrets.randbits(62))


def _version_5(arguments: Arguments) -> uuid.UUID:
    return uuid.uuid5(_namespace(arguments.get("namespace", "dns")), _name(arguments))


def _name(arguments: Arguments) -> str:
    if not arguments.get("name"):
        raise field_required("name")
    return str(arguments["name"])


def _namespace(name: str) -> uuid.UUID:
    if name in _NAMESPACES:
        return _NAMESPACES[name]
    made = _parsed(name)
    if made is None:
        raise field_invalid("namespace", f"must be a UUID or one of {', '.join(_NAMESPACES)}")
    return made


def _component_id(arguments: Arguments) -> dict[str, Any]:
    prefix, short = arguments.get("prefix", "component"), arguments["short"]
    return {"id": f"{prefix}_{_random_part(short=short)}", "prefix": prefix, "short": short}


def _deterministic(arguments: Arguments) -> dict[str, Any]:
    namespace, name = arguments.get("namespace", "agent"), _name(arguments)
    made = uuid.uuid5(_namespace(namespace), name)
    return {"id": str(made), "namespace": namespace, "name": name}


def _custom(arguments: Arguments) -> dict[str, Any]:
    short, stamped = arguments["short"], arguments["timestamp"]
    parts = (
        arguments.get("prefix"),
        f"{clock.now():%Y%m%d%H%M%S}" if stamped else None,
        _random_part(short=short),
        arguments.get("suffix"),
    )
    return {"id": "_".join(filter(None, parts)), "timestamp": stamped, "short": short}


def _random_part(*, short: bool) -> str:
    return uuid.uuid4().hex[:_SHORT_LENGTH] if short else str(uuid.uuid4())


def _validate(arguments: Arguments) -> dict[str, Any]:
    made = _parsed(required(arguments, "uuid"))
    if made is None:
        return {"valid": False, "error": f"{arguments['uuid'][:100]!r} is not a UUID."}
    return {
        "valid": True,
        "uuid": str(made),
        "version": made.version or 0,
        "variant": _VARIANTS[made.variant],
    }


def _parsed(written: str) -> uuid.UUID | None:
    match = _WRITTEN.fullmatch(written.strip())
    return uuid.UUID(match[match.lastgroup or 0]) if match else None


_RANDOM = {"v1": _version_1, "v4": uuid.uuid4, "v7": _version_7}
_OPERATIONS: dict[str, Callable[[Arguments], dict[str, Any]]] = {
    "generate": _generate,
    "component_id": _component_id,
    "deterministic": _deterministic,
    "custom": _custom,
    "validate": _validate,
}
_SHORT = flag(f"Whether {_SHORT_LENGTH} digits do instead of a UUID.")

TOOLS = (
    Tool(
        name="uuid-generator",
        description="Makes identifiers: random, by time, or of a name; and checks them.",
        category="utility",
        level=Level.SAFE,
        synonyms={"input": "uuid", "id": "uuid", "include_timestamp": "timestamp"},
        parameters=parameters(
            (),
            operation=choice("What to do.", *_OPERATIONS, default="generate"),
            version=choice("generate: which kind.", "v1", "v4", "v5", "v7", default="v4"),
            format=choice("generate: how it is written.", *_FORMATS, default="standard"),
            namespace=text(
                "What names are of: dns, url, oid, x500, agent, tool, workflow or a UUID. "
                "Default dns, for deterministic agent."
            ),
            name=text("v5 and deterministic: the name."),
            prefix={**_LABEL, "description": "What it begins with, such as `agent`."},
            suffix={**_LABEL, "description": "custom: what it ends in."},
            timestamp=flag("custom: whether it holds the time in UTC.", default=False),
            short={**_SHORT, "default": False},
            uuid=text("validate: what to look at."),
        ),
        result=one_of(
            record(
                "Of generate.",
                ("uuid", "version", "format"),
                uuid=text("The UUID."),
                version=text("Its kind."),
                format=text("How it is written."),
            ),
            record(
                "Of component_id, deterministic and custom.",
                ("id",),
                id=text("The identifier."),
                prefix=text("component_id: what it begins with."),
                short=_SHORT,
                namespace=text("deterministic: what the name is of."),
                name=text("deterministic: the name."),
                timestamp=flag("custom: whether it holds the time."),
            ),
            record(
                "Of validate.",
                ("valid",),
                valid=flag("Whether it is a UUID."),
                uuid=text("In lower case with hyphens."),
                version=whole("Its version; 0 where it has none."),
                variant=choice("Whose layout it has.", *_VARIANTS.values()),
                error=text("Why it is none."),
            ),
        ),
        notes="v1 has a made-up node instead of the machine's network address. deterministic gives "
        "the same identifier for the same name everywhere.",
        run=_run,
    ),
)
