"""Between MigrationService's messages and what schemas and migrations are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llmspell.v1 import migration_pb2 as pb

from services.common.errors import Reason, field_invalid, required
from services.common.errors import ServiceError as _ServiceError
from services.state.migrations import model
from services.state.migrations.migrations import Order
from services.state.migrations.plans import Plan, Sample
from services.state.migrations.schemas import Versions

_TYPES: dict[int, model.FieldType] = {
    pb.FIELD_TYPE_UNSPECIFIED: model.FieldType.ANY,
    pb.FIELD_TYPE_STRING: model.FieldType.STRING,
    pb.FIELD_TYPE_INTEGER: model.FieldType.INTEGER,
    pb.FIELD_TYPE_NUMBER: model.FieldType.NUMBER,
    pb.FIELD_TYPE_BOOLEAN: model.FieldType.BOOLEAN,
    pb.FIELD_TYPE_ARRAY: model.FieldType.ARRAY,
    pb.FIELD_TYPE_OBJECT: model.FieldType.OBJECT,
    pb.FIELD_TYPE_ANY: model.FieldType.ANY,
}
_TYPE_NUMBERS: dict[model.FieldType, Any] = {
    kind: number for number, kind in _TYPES.items() if number
}
_VALIDATIONS = {
    pb.MIGRATION_VALIDATION_UNSPECIFIED: model.Validation.BASIC,
    pb.MIGRATION_VALIDATION_NONE: model.Validation.NONE,
    pb.MIGRATION_VALIDATION_BASIC: model.Validation.BASIC,
    pb.MIGRATION_VALIDATION_STRICT: model.Validation.STRICT,
}
_VALIDATION_NUMBERS = {kind: number for number, kind in _VALIDATIONS.items() if number}
_STATUS_NUMBERS = {
    model.Status.NOT_STARTED: pb.MIGRATION_STATUS_NOT_STARTED,
    model.Status.RUNNING: pb.MIGRATION_STATUS_RUNNING,
    model.Status.COMPLETED: pb.MIGRATION_STATUS_COMPLETED,
    model.Status.FAILED: pb.MIGRATION_STATUS_FAILED,
    model.Status.ROLLED_BACK: pb.MIGRATION_STATUS_ROLLED_BACK,
}


def read_schema(message: pb.SchemaVersion) -> model.Schema:
    """A version that is to be put.

    Raises:
        ServiceError: FIELD_INVALID, TRANSFORM_INVALID.
    """
    return model.Schema(
        message.version,
        tuple(_read_field(each, number) for number, each in enumerate(message.fields)),
        tuple(_read_transform(each, number) for number, each in enumerate(message.transforms)),
        0,
    )


def read_order(request: Any) -> Order:
    """What is asked of a migration.

    Raises:
        ServiceError: FIELD_INVALID, FIELD_REQUIRED.
    """
    if not request.schema:
        raise required("schema")
    validation = _VALIDATIONS.get(request.validation)
    if validation is None:
        raise field_invalid("validation", "must be one of the known ones")
    return Order(
        schema=request.schema,
        to_version=request.to_version,
        validation=validation,
        dry_run=getattr(request, "dry_run", False),
        backup=not getattr(request, "skip_backup", False),
    )


def write_schema(versions: Versions) -> pb.Schema:
    """A schema as it travels."""
    family = versions.family
    return pb.Schema(
        name=family.name,
        scope_pattern=family.scope_pattern,
        key_prefix=family.key_prefix,
        current_version=family.current,
        versions=[_write_version(each) for each in versions.schemas],
    )


def write_migration(migration: model.Migration) -> pb.Migration:
    """A migration as it travels."""
    message = pb.Migration(
        migration_id=migration.migration_id,
        schema=migration.schema,
        from_version=migration.from_version,
        to_version=migration.to_version,
        versions=migration.versions,
        validation=_VALIDATION_NUMBERS[migration.validation],
        dry_run=migration.dry_run,
        status=_STATUS_NUMBERS[migration.status],
        staged=migration.staged,
        backup_id=migration.backup_id,
        items_done=migration.items_done,
        items_total=migration.items_total,
        warnings=migration.warnings,
        errors=map(_write_error, migration.errors),
        revision=migration.revision,
    )
    message.create_time.FromNanoseconds(migration.create_time_ns)
    if migration.end_time_ns:
        message.end_time.FromNanoseconds(migration.end_time_ns)
    return message


def write_plan(plan: Plan, order: Order) -> pb.PlanMigrationResponse:
    """A plan as it travels."""
    to_do = bool(plan.versions)
    migration = pb.Migration(
        schema=plan.schema,
        from_version=plan.from_version,
        to_version=plan.to_version,
        versions=plan.versions,
        validation=_VALIDATION_NUMBERS[order.validation],
        status=_STATUS_NUMBERS[model.Status.NOT_STARTED if to_do else model.Status.COMPLETED],
        staged=plan.staged,
        items_total=plan.items,
    )
    return pb.PlanMigrationResponse(
        migration=migration, size_bytes=plan.size_bytes, samples=map(_write_sample, plan.samples)
    )


def _write_sample(sample: Sample) -> pb.MigrationSample:
    return pb.MigrationSample(
        scope=sample.scope,
        key=sample.key,
        before_json=sample.before.decode("utf-8", "replace"),
        after_json=sample.after.decode(),
        field=sample.path,
        rule=sample.rule,
    )


def _write_error(failure: model.Failure) -> pb.MigrationError:
    return pb.MigrationError(
        reason=Reason.Name(cast("Reason", failure.reason)),
        message=failure.message,
        scope=failure.scope,
        key=failure.key,
        field=failure.path,
        rule=failure.rule,
    )


def _read_type(number: int, field: str) -> model.FieldType:
    kind = _TYPES.get(number)
    if kind is None:
        raise field_invalid(field, "must be one of the known types")
    return kind


def _read_field(message: pb.SchemaField, number: int) -> model.Field:
    kind = _read_type(message.type, f"fields[{number}].type")
    return model.Field(message.name, kind, message.required, message.default_json)


def _read_transform(message: pb.SchemaTransform, number: int) -> model.Transform:
    kind = message.WhichOneof("kind")
    place = f"transforms[{number}]"
    if kind is None:
        raise _ServiceError(
            Reason.TRANSFORM_INVALID,
            f"{place} says nothing to do.",
            field=place,
            rule="must say what to do",
        )
    return _READ[kind](getattr(message, kind), place)


_READ: dict[str, Callable[[Any, str], model.Transform]] = {
    "copy": lambda each, _: model.Copy(each.source, each.target),
    "rename": lambda each, _: model.Rename(each.source, each.target),
    "convert": lambda each, place: model.Convert(
        each.field, _read_type(each.type, f"{place}.convert.type")
    ),
    "default": lambda each, _: model.Default(each.field, each.value_json),
    "remove": lambda each, _: model.Remove(each.field),
    "split": lambda each, _: model.Split(each.field, tuple(each.into), each.separator),
    "merge": lambda each, _: model.Merge(tuple(each.fields), each.into, each.separator),
    "custom": lambda each, _: model.Custom(each.name, each.lua),
}


def _write_version(schema: model.Schema) -> pb.SchemaVersion:
    message = pb.SchemaVersion(
        version=schema.version,
        fields=[
            pb.SchemaField(
                name=field.path,
                type=_TYPE_NUMBERS[field.type],
                required=field.required,
                default_json=field.default_json,
            )
            for field in schema.fields
        ],
        transforms=map(_write_transform, schema.transforms),
    )
    message.create_time.FromNanoseconds(schema.create_time_ns)
    return message


def _write_transform(  # noqa: PLR0911  (one for each kind)
    transform: model.Transform,
) -> pb.SchemaTransform:
    match transform:
        case model.Copy(source, target):
            return pb.SchemaTransform(copy=pb.CopyTransform(source=source, target=target))
        case model.Rename(source, target):
            return pb.SchemaTransform(rename=pb.RenameTransform(source=source, target=target))
        case model.Convert(path, kind):
            number = _TYPE_NUMBERS[kind]
            return pb.SchemaTransform(convert=pb.ConvertTransform(field=path, type=number))
        case model.Default(path, value):
            return pb.SchemaTransform(default=pb.DefaultTransform(field=path, value_json=value))
        case model.Remove(path):
            return pb.SchemaTransform(remove=pb.RemoveTransform(field=path))
        case model.Split(path, into, separator):
            split = pb.SplitTransform(field=path, into=into, separator=separator)
            return pb.SchemaTransform(split=split)
        case model.Merge(paths, target, separator):
            merge = pb.MergeTransform(fields=paths, into=target, separator=separator)
            return pb.SchemaTransform(merge=merge)
        case model.Custom(name, source):
            return pb.SchemaTransform(custom=pb.CustomTransform(name=name, lua=source))
