"""Schemas and their versions as lines."""

from __future__ import annotations

import msgspec

from services.common.redaction import is_credential_name, redact_json, redact_text
from services.state import rules as state_rules
from services.state.backup.lines import Form, Record, Time, check
from services.state.layout import migrations as layout
from services.state.migrations import rules
from services.state.migrations.model import Custom, Default, Family, Field, Schema, Transform

_TENANT = "t"


class FamilyPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which items a schema is about."""

    scope_pattern: str
    key_prefix: str
    current: str


class VersionPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a schema."""

    version: str
    fields: tuple[Field, ...]
    transforms: tuple[Transform, ...]
    create_time_ns: Time


class SchemaLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of `schemas.jsonl`: a schema, or, behind it, one of its versions."""

    name: str
    schema: FamilyPart | None = None
    version: VersionPart | None = None
    withheld: bool = False


def _tell(own: bytes, stored: bytes) -> SchemaLine:
    name, _, rest = own.partition(b"\0")
    if not rest:
        family = msgspec.json.decode(stored, type=Family)
        part = FamilyPart(family.scope_pattern, family.key_prefix, family.current)
        return SchemaLine(family.name, schema=part)
    schema = msgspec.json.decode(stored, type=Schema)
    version = VersionPart(schema.version, schema.fields, schema.transforms, schema.create_time_ns)
    return SchemaLine(name.decode(), version=version)


def _withhold(line: SchemaLine) -> SchemaLine | None:
    """Defaults and functions that hold a credential. Without them a schema is another one."""
    version = line.version
    if version is None:
        return None
    fields = tuple(map(_clean_field, version.fields))
    transforms = tuple(map(_clean_transform, version.transforms))
    if (fields, transforms) == (version.fields, version.transforms):
        return None
    clean = msgspec.structs.replace(version, fields=fields, transforms=transforms)
    return msgspec.structs.replace(line, version=clean, withheld=True)


def _clean_field(field: Field) -> Field:
    return msgspec.structs.replace(field, default_json=_clean(field.path, field.default_json))


def _clean_transform(transform: Transform) -> Transform:
    match transform:
        case Default(path, value):
            return Default(path, _clean(path, value))
        case Custom(name, source):
            return Custom(name, redact_text(source))
    return transform


def _clean(path: str, document: str) -> str:
    if not document:
        return ""
    name = path.rpartition(".")[2]
    is_told = not (is_credential_name(name) and document.strip()[:1] in ('"', "{", "["))
    return redact_json(document) if is_told else '"[REDACTED]"'


def _keep(line: SchemaLine) -> Record:
    rules.check_name(line.name)
    one = (line.schema is None) != (line.version is None)
    check(one, "schema", "must be there, or version must be, and one of them only")
    if line.schema is not None:
        return _keep_family(line.name, line.schema)
    assert line.version is not None
    return _keep_version(line.name, line.version)


def _keep_family(name: str, part: FamilyPart) -> Record:
    pattern = rules.check_pattern(part.scope_pattern)
    check(pattern == part.scope_pattern, "scope_pattern", f"must be written as {pattern}")
    prefix = state_rules.normal_prefix(part.key_prefix, "key_prefix")
    check(prefix == part.key_prefix, "key_prefix", "must be in normal form (NFC)")
    rules.check_version(part.current, "current")
    family = Family(name, part.scope_pattern, part.key_prefix, part.current)
    return _own(layout.family_key(_TENANT, name)), msgspec.json.encode(family)


def _keep_version(name: str, part: VersionPart) -> Record:
    schema = Schema(part.version, part.fields, part.transforms, part.create_time_ns)
    # Whether it is the first, which has no transforms, is seen where all of them are.
    rules.check_schema(schema, is_first=False)
    place = layout.schema_key(_TENANT, name, part.version)
    return _own(place), msgspec.json.encode(schema)


def _own(key: bytes) -> bytes:
    return key[len(_TENANT) + 1 :]


SCHEMA = Form(SchemaLine, _tell, _keep, _withhold, lambda line: line.name, is_strict=True)
