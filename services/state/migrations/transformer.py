"""From one version of a schema to another, by the quickest way that holds for each document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from services.common.limits import STATE_VALUE_BYTES_MAX
from services.state.layout import items as layout
from services.state.migrations.documents import (
    Document,
    Unfit,
    close_document,
    find,
    has_type,
    kind_of,
    open_document,
    put,
    unknown_path,
)
from services.state.migrations.model import Custom, Schema, Validation
from services.state.migrations.transforms import CustomTransform, apply
from services.state.migrations.typed import Typed, passes, typed
from services.state.model import Encoding

_JSON = Encoding.JSON.value
_ENDS, _NEVER = layout.NEVER_ENDS_AT, layout.NEVER_ENDS
_ENCODER = msgspec.json.Encoder()


class Transformer:
    """All steps from a version to another."""

    def __init__(
        self,
        first: Schema,
        steps: Sequence[Schema],
        validation: Validation,
        *,
        custom: CustomTransform | None = None,
    ) -> None:
        """`steps`: the versions to go through, in order; `custom`: runs what is written in Lua."""
        self._steps = steps
        self._validation = validation
        self._custom = custom
        self._known = frozenset(field.path for field in steps[-1].fields) if steps else frozenset()
        self._typed = typed(first, steps, validation)

    @property
    def quick(self) -> bool:
        """Whether most documents need not be looked at one by one."""
        return self._typed is not None

    def content(self, content: bytes) -> bytes:
        """A document as it will be.

        Raises:
            Unfit: it does not allow it, or the result breaks the schema.
        """
        result = None if self._typed is None else self._typed.content(content)
        if result is None or len(result) > STATE_VALUE_BYTES_MAX:
            result = self._one_by_one(content)
        return result

    def _one_by_one(self, content: bytes) -> bytes:
        document = open_document(content)
        for step in self._steps:
            document = self._step(document, step)
        self._validate(document)
        result = close_document(document)
        if len(result) > STATE_VALUE_BYTES_MAX:
            raise Unfit("", f"would have {len(result)} bytes; {STATE_VALUE_BYTES_MAX} are allowed")
        return result

    def stored(self, stored: bytes, *, revision: int = 0, now_ns: int = 0) -> bytes:
        """A value in `items` as it will be; without a revision its own stays.

        Raises:
            Unfit: see `content`; it is no JSON.
        """
        if stored[0] == _JSON and not revision:
            content = self.content(stored[layout.HEADER_BYTES :])
            if len(content) <= layout.PLAIN_BYTES_MAX:
                return stored[: layout.HEADER_BYTES] + content
        item = layout.unpack_item("", stored)
        if item.value is None or item.value.encoding is not Encoding.JSON:
            raise Unfit("", "must be a JSON object")
        return layout.with_content(
            stored, self.content(item.value.content), revision=revision, now_ns=now_ns
        )

    def all_stored(self, values: Sequence[bytes], *, revision: int, now_ns: int) -> Made:
        """Values in `items` as they will be, at a revision; 0: each at its own.

        Raises:
            UnfitAt: one of them does not allow it.
        """
        made = Made([], [])
        quick = [stored for stored in values if stored[0] == _JSON and stored[_ENDS] == _NEVER]
        ready = None if self._typed is None else self._quickly(self._typed, quick, revision, now_ns)
        if ready is not None and len(quick) == len(values):
            return Made(ready, [])
        rest = iter(ready or ())
        for stored in values:
            if ready is not None and stored[0] == _JSON and stored[_ENDS] == _NEVER:
                made.values.append(next(rest))
            else:
                self._make(stored, made, revision=revision, now_ns=now_ns)
        return made

    @staticmethod
    def _quickly(
        quick: Typed, values: Sequence[bytes], revision: int, now_ns: int
    ) -> list[bytes] | None:
        """JSON without an end as it will be; None where one of them needs a closer look.

        What is done here for each item is most of what a migration takes. So it is done for all of
        them at once, a thing at a time.
        """
        begin, create = layout.HEADER_BYTES, layout.CREATE_TIME
        try:
            documents = list(map(quick.decoder.decode, [stored[begin:] for stored in values]))
        except (msgspec.DecodeError, RecursionError):
            return None
        for name in quick.removed:
            for document in documents:
                setattr(document, name, UNSET)
        checks, written = quick.checks, quick.written
        if checks and not all(passes(document, checks) for document in documents):
            return None
        for document in documents:
            document.__class__ = written
        contents = list(map(_ENCODER.encode, documents))
        if max(map(len, contents), default=0) > layout.PLAIN_BYTES_MAX:
            return None
        join, pairs = b"".join, zip(values, contents, strict=True)
        if not revision:
            return [join((stored[:begin], content)) for stored, content in pairs]
        head, tail = layout.header_parts(revision=revision, update_time_ns=now_ns)
        return [join((head, stored[create], tail, content)) for stored, content in pairs]

    def _make(self, stored: bytes, made: Made, *, revision: int, now_ns: int) -> None:
        if layout.ended(stored, now_ns) is not None:
            made.ended.append(len(made.values))
            made.values.append(b"")
            return
        try:
            made.values.append(self.stored(stored, revision=revision, now_ns=now_ns))
        except Unfit as unfit:
            raise UnfitAt(len(made.values), unfit) from None

    def _step(self, document: Document, step: Schema) -> Document:
        for transform in step.transforms:
            if isinstance(transform, Custom):
                document = self._run(document, transform)
            else:
                apply(document, transform)
        for field in step.fields:
            if field.default_json and find(document, field.path) is None:
                put(document, field.path, field.default_json.encode())
        return document

    def _run(self, document: Document, transform: Custom) -> Document:
        assert self._custom is not None, "refused before"
        done = self._custom(transform.name, transform.source, close_document(document))
        return open_document(done)

    def _validate(self, document: Document) -> None:
        if self._validation is Validation.NONE:
            return
        for field in self._steps[-1].fields:
            content = find(document, field.path)
            if content is None:
                if field.required:
                    raise Unfit(field.path, "is required")
            elif not has_type(content, field.type) and (
                field.required or kind_of(content) != "null"
            ):
                raise Unfit(field.path, f"must be of type {field.type.value}")
        if self._validation is Validation.STRICT:
            unknown = unknown_path(document, self._known)
            if unknown is not None:
                raise Unfit(unknown, "is not a field of the schema")


@dataclass(frozen=True, slots=True)
class Made:
    """Values in `items` as they will be."""

    values: list[bytes]
    ended: list[int]
    """Which of them are of items whose time has come; those are empty."""


class UnfitAt(Exception):  # noqa: N818  (see Unfit)
    """One of several documents is unfit."""

    def __init__(self, number: int, unfit: Unfit) -> None:
        super().__init__(str(unfit))
        self.number = number
        self.unfit = unfit
