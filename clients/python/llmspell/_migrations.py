"""MigrationService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from google.protobuf import json_format

from llmspell._contract import Call, Page
from llmspell._migration_types import (
    NOTHING,
    FieldType,
    Migration,
    MigrationFailure,
    MigrationPlan,
    MigrationSample,
    MigrationStatus,
    MigrationValidation,
    SchemaField,
    SchemaVersion,
    StateSchema,
    Transform,
)
from llmspell._values import from_timestamp, to_duration, uint32
from llmspell.errors import InvalidArgument
from llmspell.v1 import migration_pb2 as pb

WAIT_SPARE_S = 10.0
"""Seconds that a call which waits may take beyond its wait."""


def put_schema(
    name: str,
    version: str,
    *,
    fields: Iterable[SchemaField],
    transforms: Iterable[Transform],
    scope_pattern: str,
    key_prefix: str,
) -> Call[StateSchema]:
    """Put a version."""
    request = pb.PutSchemaRequest(name=name, scope_pattern=scope_pattern, key_prefix=key_prefix)
    request.version.version = version
    request.version.fields.extend(_field(each) for each in fields)
    for number, transform in enumerate(transforms):
        request.version.transforms.append(_transform(transform, f"transforms[{number}]"))
    return Call(request, lambda answer: _schema(answer.schema))


def get_schema(name: str) -> Call[StateSchema]:
    """One schema."""
    return Call(pb.GetSchemaRequest(name=name), lambda answer: _schema(answer.schema))


def list_schemas() -> Call[Page[StateSchema]]:
    """A page of schemas."""
    return Call(
        pb.ListSchemasRequest(),
        lambda answer: Page(list(map(_schema, answer.schemas)), answer.next_page_token),
    )


def delete_schema(name: str, version: str) -> Call[int]:
    """Remove a version, or all."""
    request = pb.DeleteSchemaRequest(name=name, version=version)
    return Call(request, lambda answer: int(answer.deleted_count))


def plan_migration(
    schema: str, to_version: str, *, validation: MigrationValidation, samples: int
) -> Call[MigrationPlan]:
    """What a migration would do."""
    request = pb.PlanMigrationRequest(
        schema=schema,
        to_version=to_version,
        validation=_validation(validation),
        sample_count=uint32(samples, "samples"),
    )
    return Call(request, _plan)


def start_migration(
    schema: str,
    to_version: str,
    *,
    validation: MigrationValidation,
    dry_run: bool,
    backup: bool,
) -> Call[Migration]:
    """Begin one."""
    request = pb.StartMigrationRequest(
        schema=schema,
        to_version=to_version,
        validation=_validation(validation),
        dry_run=dry_run,
        skip_backup=not backup,
    )
    return Call(request, lambda answer: _migration(answer.migration))


def get_migration(migration_id: str, wait_s: float) -> Call[Migration]:
    """One migration, now or when it has ended."""
    request = pb.GetMigrationRequest(migration_id=migration_id)
    if wait_s:
        wait = to_duration(wait_s, "wait_s")
        assert wait is not None, "it is not None"
        request.wait.CopyFrom(wait)
    timeout_s = wait_s + WAIT_SPARE_S if wait_s else None
    return Call(request, lambda answer: _migration(answer.migration), timeout_s)


def list_migrations() -> Call[Page[Migration]]:
    """A page of migrations."""
    return Call(
        pb.ListMigrationsRequest(),
        lambda answer: Page(list(map(_migration, answer.migrations)), answer.next_page_token),
    )


def cancel_migration(migration_id: str) -> Call[Migration]:
    """End one."""
    request = pb.CancelMigrationRequest(migration_id=migration_id)
    return Call(request, lambda answer: _migration(answer.migration))


def _number(kind: Any, prefix: str, name: str, field: str) -> Any:
    numbers = {each.removeprefix(prefix).lower(): number for each, number in kind.items() if number}
    if name not in numbers:
        known = ", ".join(numbers)
        raise InvalidArgument(f"{field} must be one of {known}.", metadata={"field": field})
    return numbers[name]


def _type(name: str, field: str) -> Any:
    return _number(pb.FieldType, "FIELD_TYPE_", name, field)


def _validation(name: str) -> Any:
    kind = pb.MigrationValidation
    return _number(kind, "MIGRATION_VALIDATION_", name, "validation")


def _field(field: SchemaField) -> pb.SchemaField:
    default = "" if field.default is NOTHING else _json(field.default, f"{field.name}.default")
    return pb.SchemaField(
        name=field.name,
        type=_type(field.type, f"{field.name}.type"),
        required=field.required,
        default_json=default,
    )


def _json(value: Any, field: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidArgument(f"{field} must be JSON.", metadata={"field": field}) from None


def _transform(transform: Transform, place: str) -> pb.SchemaTransform:
    plain = {kind: dict(settings) for kind, settings in _pairs(transform, place)}
    if "convert" in plain and "type" in plain["convert"]:
        plain["convert"]["type"] = _type(plain["convert"]["type"], f"{place}.convert.type")
    if "default" in plain and "value" in plain["default"]:
        value = plain["default"].pop("value")
        plain["default"]["value_json"] = _json(value, f"{place}.default.value")
    try:
        return json_format.ParseDict(plain, pb.SchemaTransform())
    except json_format.ParseError as error:
        raise InvalidArgument(f"{place}: {error}", metadata={"field": place}) from None


def _pairs(transform: Transform, place: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    fits = isinstance(transform, Mapping) and all(
        isinstance(settings, Mapping) for settings in transform.values()
    )
    if not fits or len(transform) != 1:
        rule = "must be one name with its settings"
        raise InvalidArgument(f"{place} {rule}.", metadata={"field": place, "rule": rule})
    return transform.items()


def _schema(message: pb.Schema) -> StateSchema:
    return StateSchema(
        name=message.name,
        scope_pattern=message.scope_pattern,
        key_prefix=message.key_prefix,
        current_version=message.current_version,
        versions=[_version(each) for each in message.versions],
    )


def _version(message: pb.SchemaVersion) -> SchemaVersion:
    return SchemaVersion(
        version=message.version,
        fields=[_schema_field(each) for each in message.fields],
        transforms=[_told(each) for each in message.transforms],
        create_time=from_timestamp(message, "create_time"),
    )


def _schema_field(message: pb.SchemaField) -> SchemaField:
    return SchemaField(
        name=message.name,
        type=_type_name(message.type),
        required=message.required,
        default=json.loads(message.default_json) if message.default_json else NOTHING,
    )


def _type_name(number: Any) -> FieldType:
    return cast("FieldType", pb.FieldType.Name(number).removeprefix("FIELD_TYPE_").lower())


def _told(message: pb.SchemaTransform) -> Transform:
    kind = str(message.WhichOneof("kind"))
    inner = getattr(message, kind)
    settings: dict[str, Any] = json_format.MessageToDict(
        inner, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    if kind == "convert":
        settings["type"] = _type_name(inner.type)
    if kind == "default":
        settings["value"] = json.loads(settings.pop("value_json"))
    return {kind: settings}


def _migration(message: pb.Migration) -> Migration:
    validation = pb.MigrationValidation.Name(message.validation)
    status = pb.MigrationStatus.Name(message.status)
    return Migration(
        migration_id=message.migration_id,
        schema=message.schema,
        from_version=message.from_version,
        to_version=message.to_version,
        versions=list(message.versions),
        validation=cast(
            "MigrationValidation", validation.removeprefix("MIGRATION_VALIDATION_").lower()
        ),
        dry_run=message.dry_run,
        status=cast("MigrationStatus", status.removeprefix("MIGRATION_STATUS_").lower()),
        staged=message.staged,
        backup_id=message.backup_id,
        items_done=message.items_done,
        items_total=message.items_total,
        warnings=list(message.warnings),
        errors=[_failure(each) for each in message.errors],
        create_time=from_timestamp(message, "create_time"),
        end_time=from_timestamp(message, "end_time"),
        revision=message.revision,
    )


def _failure(message: pb.MigrationError) -> MigrationFailure:
    return MigrationFailure(
        reason=message.reason,
        message=message.message,
        scope=message.scope,
        key=message.key,
        field=message.field,
        rule=message.rule,
    )


def _plan(answer: pb.PlanMigrationResponse) -> MigrationPlan:
    return MigrationPlan(
        migration=_migration(answer.migration),
        size_bytes=answer.size_bytes,
        samples=[_sample(each) for each in answer.samples],
    )


def _sample(message: pb.MigrationSample) -> MigrationSample:
    return MigrationSample(
        scope=message.scope,
        key=message.key,
        before=_loaded(message.before_json),
        after=_loaded(message.after_json),
        field=message.field,
        rule=message.rule,
    )


def _loaded(text: str) -> Any:
    """JSON, or the text itself where an item holds something else."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
