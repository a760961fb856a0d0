"""hash-calculator: checksums of a text or a file, and whether one is what was expected."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from typing import Any

import blake3

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    field_invalid,
    field_required,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.schema import choice, flag, one_of, record, text

FILE_BYTES_MAX = 100 * MIB
_PIECE_BYTES = MIB

_ALGORITHMS: dict[str, Callable[[], Any]] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha224": hashlib.sha224,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "sha3-256": hashlib.sha3_256,
    "sha3-512": hashlib.sha3_512,
    "blake2b": hashlib.blake2b,
    "blake3": blake3.blake3,
}


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    # Before the bytes are read: what cannot be compared is said at once.
    expected = _expected(arguments) if operation == "verify" else b""
    made = _ALGORITHMS[arguments["algorithm"]]()
    for piece in _pieces(arguments, desk):
        made.update(piece)
    digest = made.digest()
    algorithm = arguments["algorithm"]
    if operation == "hash":
        shape = arguments["format"]
        result = {"algorithm": algorithm, "hash": _written(digest, shape), "format": shape}
        return Outcome(operation=operation, result=result, message=f"Hashed with {algorithm}")
    verified = hmac.compare_digest(digest, expected)
    result = {
        "verified": verified,
        "algorithm": algorithm,
        "expected": arguments["expected_hash"],
        "actual": _written(digest, arguments["expected_format"]),
    }
    words = "matches" if verified else "does not match"
    return Outcome(operation=operation, result=result, message=f"The {algorithm} hash {words}")


def _pieces(arguments: Arguments, desk: Desk) -> Iterator[bytes]:
    # A file alone says what is meant.
    if arguments["input_type"] == "file" or ("file" in arguments and "input" not in arguments):
        yield from _file_pieces(arguments.get("file") or arguments.get("input", ""), desk)
    elif "input" not in arguments:
        raise ToolError("FIELD_REQUIRED", "input or file must be set.", field="input")
    else:
        yield arguments["input"].encode()


def _file_pieces(path: str, desk: Desk) -> Iterator[bytes]:
    with os.fdopen(desk.folder.open(path, os.O_RDONLY, field="file"), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > FILE_BYTES_MAX:
            raise limit_exceeded("file", size, FILE_BYTES_MAX, "bytes")
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _expected(arguments: Arguments) -> bytes:
    written = arguments.get("expected_hash")
    if not written:
        raise field_required("expected_hash")
    shape = arguments["expected_format"]
    try:
        if shape == "hex":
            return bytes.fromhex(written.strip())
        return base64.b64decode(written.strip(), validate=True)
    except ValueError:
        raise field_invalid("expected_hash", f"must be a hash as {shape}") from None


def _written(digest: bytes, shape: str) -> str:
    return digest.hex() if shape == "hex" else base64.b64encode(digest).decode()


_ALGORITHM = choice("Which checksum.", *_ALGORITHMS)

TOOLS = (
    Tool(
        name="hash-calculator",
        description="Computes a checksum of a text or a file, or checks one.",
        category="utility",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES}),
        synonyms={
            "text": "input",
            "data": "input",
            "content": "input",
            "file_path": "file",
            "path": "file",
            "hash": "expected_hash",
        },
        parameters=parameters(
            (),
            operation=choice("What to do.", "hash", "verify", default="hash"),
            algorithm={**_ALGORITHM, "default": "sha256"},
            input_type=choice("What is given.", "string", "file", default="string"),
            input=text("The text."),
            file=text("Path of a file in the tenant's folder, instead of `input`."),
            format=choice("How the hash is written.", "hex", "base64", default="hex"),
            expected_hash=text("verify: the hash that it should be."),
            expected_format=choice("verify: how that is written.", "hex", "base64", default="hex"),
        ),
        result=one_of(
            record(
                "Of hash.",
                ("algorithm", "hash", "format"),
                algorithm=_ALGORITHM,
                hash=text("The checksum."),
                format=text("How it is written."),
            ),
            record(
                "Of verify.",
                ("verified", "algorithm", "expected", "actual"),
                verified=flag("Whether it is the expected one."),
                algorithm=_ALGORITHM,
                expected=text("As given."),
                actual=text("What it is, written like the expected one."),
            ),
        ),
        notes=f"Files of at most {FILE_BYTES_MAX // MIB} MiB. md5 and sha1 are no protection.",
        run=_run,
    ),
)
