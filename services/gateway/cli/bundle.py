"""A tenant as a folder: what it keeps in state, its vectors, and what the operator says of it.

    manifest.json     what is in it, with a digest of each file
    state.tar         as `llmspell tenant export` writes it
    vectors/N.jsonl   a collection: a line with its settings, then a line for each record

Vectors are read page by page: a collection that is written to meanwhile is not of one moment.
"""

from __future__ import annotations

import base64
import json
import os
from array import array
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from blake3 import blake3

from services.gateway.cli.output import to_plain

if TYPE_CHECKING:
    from llmspell import Client, Record
    from llmspell.types import Collection, Tenant

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.tar"
_VECTORS = "vectors"
_PIECE_BYTES = 1024**2
LEFT_OUT = (
    "API keys",
    "files of tools",
    "usage and budgets",
    "snapshots and histories of vectors",
    "backups",
)
"""Not in a bundle."""


def write_bundle(
    client: Client, tenant: Tenant, folder: Path, *, sensitive: bool
) -> dict[str, Any]:
    """Write a tenant into a folder that is not there yet, or is empty; its manifest.

    Raises:
        LLMSpellError: the folder is unfit, or the service refused.
    """
    _make(folder)
    with _new(folder / STATE) as file:
        for piece in client.export_tenant(include_sensitive=sensitive):
            file.write(piece)
    collections = []
    for number, collection in enumerate(client.list_collections(scope="*")):
        name = f"{_VECTORS}/{number:06}.jsonl"
        count = _write_collection(client, collection, folder / name)
        place = {"scope": collection.scope, "collection": collection.collection_id}
        collections.append({"file": name, **place, "record_count": count})
    manifest = {
        "format": FORMAT,
        "tenant": to_plain(tenant),
        "create_time": datetime.now(UTC).isoformat(timespec="seconds"),
        "collections": collections,
        "left_out": list(LEFT_OUT),
        "files": {name: _digest(folder / name) for name in (STATE, *_names(collections))},
    }
    with _new(folder / MANIFEST) as file:  # the last one: without it there is no bundle
        file.write(json.dumps(manifest, indent=2).encode() + b"\n")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, each of whose files is what it was.

    Raises:
        InvalidArgument: it is no bundle, or a file is not what it was.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = dict(manifest["files"])
        fits = manifest["format"] == FORMAT and isinstance(manifest["tenant"], dict)
        known = {STATE, *_names(manifest["collections"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unfit(f"{folder} is no bundle of a tenant: {error}") from None
    if not fits:
        raise unfit(f"{folder} was written by another release: format {manifest['format']}")
    for name, digest in files.items():
        if name not in known or ".." in Path(name).parts or _digest(folder / name) != digest:
            raise unfit(f"{name} in {folder} is not what it was when it was written")
    if known != files.keys():
        raise unfit(f"{folder} lacks a file that its manifest tells of")
    return dict(manifest)


def read_bundle(client: Client, folder: Path, manifest: dict[str, Any], *, replace: bool) -> int:
    """Make a tenant what a bundle says; how many records of vectors were written.

    Its state is all or nothing; collections come one after the other, and doing it again goes on.

    Raises:
        LLMSpellError: a file is unfit, or the service refused.
    """
    with (folder / STATE).open("rb") as archive:
        pieces = iter(lambda: archive.read(_PIECE_BYTES), b"")
        for _ in client.import_tenant(pieces, replace=replace):
            pass
    return sum(_read_collection(client, folder / name) for name in _names(manifest["collections"]))


def unfit(message: str) -> Exception:
    """What was given cannot be used."""
    from llmspell.errors import InvalidArgument  # noqa: PLC0415  (slow to import)

    return InvalidArgument(f"{message}.", metadata={"field": "folder"})


def _write_collection(client: Client, collection: Collection, path: Path) -> int:
    count = 0
    with _new(path) as file:
        file.write(_line(to_plain(collection)))
        found = client.list_vectors(
            collection.collection_id, scope=collection.scope, with_vectors=True
        )
        for record in found:
            file.write(_line(_plain(record)))
            count += 1
    return count


def _plain(record: Record) -> dict[str, Any]:
    vector = record.vector if isinstance(record.vector, array) else array("f", record.vector or ())
    ends, happened = record.expire_time, record.event_time
    return {
        "id": record.record_id,
        "f32": base64.b64encode(vector.tobytes()).decode(),
        "metadata": to_plain(record.metadata),
        "text": record.text,
        "event_time": happened.isoformat() if happened else None,
        "expire_time": ends.isoformat() if ends else None,
    }


def _read_collection(client: Client, path: Path) -> int:
    with path.open("rb") as file:
        settings = json.loads(file.readline())
        place = _made(client, settings)
        count = 0
        for progress in client.import_vectors(place[1], _records(file), scope=place[0]):
            count = progress.record_count
    return count


def _made(client: Client, settings: dict[str, Any]) -> tuple[str, str]:
    """Scope and name of the collection, which is there then."""
    from llmspell.errors import AlreadyExists  # noqa: PLC0415  (slow to import)
    from llmspell.types import Hnsw  # noqa: PLC0415  (slow to import)

    scope, name = settings["scope"], settings["collection_id"]
    ends = settings.get("expire_time")
    more: dict[str, Any] = {
        "scope": scope,
        "hnsw": Hnsw(**settings["hnsw"]),
        "default_ttl_s": settings.get("default_ttl_s"),
        "history_s": settings.get("history_s") or None,
        "ttl_s": _left_s(ends) if ends else None,
    }
    embedding = settings.get("embedding")
    if embedding is None:
        with suppress(AlreadyExists):
            client.create_collection(name, settings["dimension"], metric=settings["metric"], **more)
        return scope, name
    made = client.ensure_document_collection(name, provider=embedding["provider"], **more)
    if to_plain(made.embedding) != embedding:
        raise unfit(
            f"The documents in {name} were embedded with {embedding['model']}, which this "
            "deployment does not have; ingest them again"
        )
    return scope, name


def _records(lines: IO[bytes]) -> Iterator[Record]:
    from llmspell import Record  # noqa: PLC0415  (slow to import)

    for line in lines:
        fields = json.loads(line)
        happened, ends = fields["event_time"], fields["expire_time"]
        ttl_s = _left_s(ends) if ends else None
        yield Record(
            record_id=fields["id"],
            vector=array("f", base64.b64decode(fields["f32"])),
            metadata=fields["metadata"],
            text=fields["text"],
            event_time=datetime.fromisoformat(happened) if happened else None,
            ttl_s=ttl_s,
        )


def _left_s(moment: str) -> float:
    """Seconds until then; what has ended meanwhile ends at once."""
    return max((datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds(), 1.0)


def _line(fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _names(collections: list[dict[str, Any]]) -> list[str]:
    return [each["file"] for each in collections]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise unfit(f"{folder} is not empty")
        (folder / _VECTORS).mkdir(mode=0o700)
    except OSError as error:
        raise unfit(f"{folder} cannot be written: {error.strerror}") from None


def _new(path: Path) -> IO[bytes]:
    """A file that its owner alone reads."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


def _digest(path: Path) -> str:
    hasher = blake3()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()
