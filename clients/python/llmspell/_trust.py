"""TLS of a client: whom it trusts, and what it shows of itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from llmspell.errors import FailedPrecondition, InvalidArgument

SYSTEM = "system"
"""In place of a file: the authorities that grpc comes with, for a public certificate."""

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Files of TLS; all empty: plaintext."""

    ca_file: str = ""
    """Authority (PEM) that signed the server's certificate, or `system`."""
    certificate_file: str = ""
    """Own certificate (PEM), where the server asks for one."""
    key_file: str = ""
    """Its key."""

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise InvalidArgument(
                "certificate_file and key_file need each other.",
                metadata={"field": "certificate_file"},
            )
        if self.certificate_file and not self.ca_file:
            raise InvalidArgument(
                "certificate_file needs ca_file: whose certificate the server shows, or `system`.",
                metadata={"field": "ca_file"},
            )

    def __bool__(self) -> bool:
        return bool(self.ca_file)


def given_trust(
    ca_file: PathLike | None,
    certificate_file: PathLike | None,
    key_file: PathLike | None,
    environment: Mapping[str, str],
) -> Trust:
    """What the arguments say, else the environment.

    Raises:
        InvalidArgument: FIELD_INVALID where one of a pair is missing.
    """
    return Trust(
        ca_file=os.fspath(ca_file or environment.get("LLMSPELL_CA_FILE", "")),
        certificate_file=os.fspath(
            certificate_file or environment.get("LLMSPELL_CERTIFICATE_FILE", "")
        ),
        key_file=os.fspath(key_file or environment.get("LLMSPELL_KEY_FILE", "")),
    )


def credentials(trust: Trust) -> grpc.ChannelCredentials:
    """For a channel.

    Raises:
        FailedPrecondition: CONFIG_INVALID where a file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        None if trust.ca_file == SYSTEM else _read(trust.ca_file),
        _read(trust.key_file) if trust.key_file else None,
        _read(trust.certificate_file) if trust.certificate_file else None,
    )


def _read(file: str) -> bytes:
    try:
        content = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise _unfit(file, f"cannot be read: {error.strerror}") from None
    if b"-----BEGIN " not in content:
        raise _unfit(file, "is not PEM")
    return content


def _unfit(file: str, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"{file} {why}.", reason="CONFIG_INVALID", metadata={"file": file})
