"""The master key: where it comes from, and what is done with it.

It wraps the data keys of tenants and the keys of backups, and nothing else; it is never written.
It is 32 bytes, as 64 hexadecimal digits, from a file that nobody else may read or from the
environment. While it is replaced, the one before is given too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import Reason, ServiceError
from services.state.layout.vault import ID_BYTES, NONCE_BYTES, MasterRecord

MASTER_KEY = "LLMSPELL_MASTER_KEY"
PREVIOUS_MASTER_KEY = "LLMSPELL_PREVIOUS_MASTER_KEY"

_KEY_BYTES = 32
_FOR_OTHERS = 0o077
_MOUNTED = Path("/run/secrets")
"""Where a container is given its secrets. Their mode is the mount's; nobody else is in there."""


class MasterKey:
    """One master key. It does not show itself."""

    def __init__(self, key: bytes) -> None:
        """`key`: 32 bytes."""
        self.key_id = _derived(key, "id")[:ID_BYTES]
        """Tells one from another, and nothing else about it."""
        self._wrapping = AESGCM(_derived(key, "wrapping"))
        self._proving = AESGCM(_derived(key, "proving"))

    def wrap(self, key: bytes, place: bytes) -> bytes:
        """Another key, sealed; it opens at this place only."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._wrapping.encrypt(nonce, key, place)

    def unwrap(self, wrapped: bytes, place: bytes) -> bytes:
        """What `wrap` sealed.

        Raises:
            InvalidTag: it was not sealed by this key for this place.
        """
        return self._wrapping.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], place)

    def prove(self, said: bytes) -> bytes:
        """A nonce and a tag over what is said."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._proving.encrypt(nonce, b"", said)

    def has_proven(self, proof: bytes, said: bytes) -> bool:
        """Whether `prove` made this of that."""
        try:
            self._proving.decrypt(proof[:NONCE_BYTES], proof[NONCE_BYTES:], said)
        except (InvalidTag, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """The master key in force, and the one before while it is replaced."""

    current: MasterKey | None = None
    previous: MasterKey | None = None
    by_id: Mapping[bytes, MasterKey] = field(init=False)

    def __post_init__(self) -> None:
        held = [key for key in (self.previous, self.current) if key is not None]
        object.__setattr__(self, "by_id", {key.key_id: key for key in held})

    def of(self, key_id: bytes) -> MasterKey:
        """The one with this id.

        Raises:
            ServiceError: MASTER_KEY_WRONG, MASTER_KEY_MISSING.
        """
        found = self.by_id.get(key_id)
        if found is None:
            raise _wrong(key_id) if self.by_id else _missing()
        return found

    def needed(self) -> MasterKey:
        """The one in force.

        Raises:
            ServiceError: MASTER_KEY_MISSING.
        """
        if self.current is None:
            raise _missing()
        return self.current

    def check_previous(self, key_id: bytes) -> None:
        """Whether the one before is the one with this id.

        Raises:
            ServiceError: MASTER_KEY_MISSING.
        """
        if self.previous is None or self.previous.key_id != key_id:
            raise _previous_missing(key_id)

    def check(self, record: MasterRecord) -> None:
        """Whether all that a store's note names is held.

        Raises:
            ServiceError: MASTER_KEY_WRONG, MASTER_KEY_MISSING, RECORD_CORRUPT.
        """
        self.needed()
        master = self.of(record.master_id)
        if record.previous_id and record.previous_id not in self.by_id:
            raise _previous_missing(record.previous_id)
        if not master.has_proven(record.proof, _said(record)):
            raise ServiceError(
                Reason.RECORD_CORRUPT,
                "What the store notes of its master key was not written by a holder of that key.",
                key="master",
            )

    def proven(self, record: MasterRecord) -> MasterRecord:
        """The note with its proof."""
        proof = self.of(record.master_id).prove(_said(record))
        return msgspec.structs.replace(record, proof=proof)


NO_MASTER = MasterKeys()


def read_master_keys(file: str, previous_file: str, environment: Mapping[str, str]) -> MasterKeys:
    """The master keys from files, or from the environment where no file is named.

    Args:
        file: `state.master_key_file`; empty: none.
        previous_file: `state.previous_master_key_file`; empty: none.
        environment: Has `LLMSPELL_MASTER_KEY` and `LLMSPELL_PREVIOUS_MASTER_KEY`, or not.

    Raises:
        ServiceError: MASTER_KEY_MISSING where a file that is named is not there, CONFIG_INVALID
            where it is malformed or others may read it. No content is shown.
    """
    current = _read(file, "state.master_key_file", MASTER_KEY, environment)
    previous = None
    if not previous_file or Path(previous_file).exists():  # it goes once it is no longer needed
        name = "state.previous_master_key_file"
        previous = _read(previous_file, name, PREVIOUS_MASTER_KEY, environment)
    if current is None and previous is not None:
        raise _missing()
    return MasterKeys(current, previous)


def _read(
    file: str, setting: str, variable: str, environment: Mapping[str, str]
) -> MasterKey | None:
    if file:
        return MasterKey(_parsed(_file_text(Path(file), setting), setting, file))
    text = environment.get(variable, "")
    return MasterKey(_parsed(text, variable, "the environment")) if text else None


def _file_text(file: Path, setting: str) -> str:
    try:
        mode = file.stat().st_mode
        text = file.read_text("ascii")
    except FileNotFoundError:
        raise ServiceError(
            Reason.MASTER_KEY_MISSING,
            f"The master key ({setting}) is not at {file}.",
            key=setting,
            file=file,
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not hexadecimal text"
        raise _unusable(setting, file, str(why)) from None
    if mode & _FOR_OTHERS and not file.absolute().is_relative_to(_MOUNTED):
        raise _unusable(setting, file, f"its mode {mode & 0o777:o} lets others at it; chmod 600")
    return text


def _parsed(text: str, setting: str, place: object) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        raise _unusable(setting, place, "it is not hexadecimal text") from None
    if len(key) != _KEY_BYTES:
        raise _unusable(setting, place, f"it holds {len(key)} bytes instead of {_KEY_BYTES}")
    return key


def _unusable(setting: str, place: object, why: str) -> ServiceError:
    return ServiceError(
        Reason.CONFIG_INVALID,
        f"The master key ({setting}) cannot be taken from {place}: {why}. It is 64 hexadecimal "
        "digits (`openssl rand -hex 32`).",
        key=setting,
        file=place,
    )


def _missing() -> ServiceError:
    return ServiceError(
        Reason.MASTER_KEY_MISSING,
        "The store is encrypted and no master key is given (state.master_key_file or "
        f"{MASTER_KEY}). Nothing was touched.",
        key="state.master_key_file",
    )


def _previous_missing(key_id: bytes) -> ServiceError:
    return ServiceError(
        Reason.MASTER_KEY_MISSING,
        f"Data keys are still wrapped with the master key {key_id.hex()}, which has to be given as "
        f"state.previous_master_key_file or {PREVIOUS_MASTER_KEY} until none is. Nothing was "
        "touched.",
        key="state.previous_master_key_file",
    )


def _wrong(key_id: bytes) -> ServiceError:
    return ServiceError(
        Reason.MASTER_KEY_WRONG,
        f"The store's keys are wrapped with the master key {key_id.hex()}, and another one is "
        "given. Nothing was touched.",
        master_key_id=key_id.hex(),
    )


def _said(record: MasterRecord) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(record, proof=b""))


def _derived(key: bytes, purpose: str) -> bytes:
    return blake3(key, derive_key_context=f"llmspell 2026 master key {purpose}").digest()
