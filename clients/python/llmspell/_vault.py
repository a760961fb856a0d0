"""VaultService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from typing import Any

from llmspell._contract import Call
from llmspell._values import from_timestamp
from llmspell.types import DataKey, VaultStatus
from llmspell.v1 import vault_pb2 as pb


def rotate_tenant_key() -> Call[int]:
    """A new data key for the caller's tenant."""
    return Call(pb.RotateTenantKeyRequest(), lambda answer: answer.version)


def rotate_master_key() -> Call[str]:
    """The master key that its file holds now."""
    return Call(pb.RotateMasterKeyRequest(), lambda answer: answer.master_key_id)


def vault_status() -> Call[VaultStatus]:
    """How things stand with keys."""
    return Call(pb.GetVaultStatusRequest(), _status)


def _status(answer: Any) -> VaultStatus:
    return VaultStatus(
        encrypted=answer.encrypted,
        master_key_id=answer.master_key_id,
        data_key_count=answer.data_key_count,
        older_count=answer.older_count,
        previous_wrapped_count=answer.previous_wrapped_count,
        plain_left=answer.plain_left,
        versions=tuple(map(_data_key, answer.versions)),
    )


def _data_key(message: Any) -> DataKey:
    return DataKey(
        version=message.version,
        create_time=from_timestamp(message, "create_time"),
        master_key_id=message.master_key_id,
        current=message.current,
    )
