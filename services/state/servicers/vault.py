"""VaultService: messages to values, one call of the vault, values to messages."""

from __future__ import annotations

from llmspell.v1 import vault_pb2, vault_pb2_grpc

from services.common.context import current_tenant
from services.state.vault import Vault


class VaultServicer(vault_pb2_grpc.VaultServiceServicer):
    """Answers from the vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def RotateTenantKey(  # noqa: N802  (the contract's name)
        self, request: vault_pb2.RotateTenantKeyRequest, context: object
    ) -> vault_pb2.RotateTenantKeyResponse:
        """A new data key for the caller's tenant."""
        del request, context
        version = await self._vault.rotate_tenant(current_tenant())
        return vault_pb2.RotateTenantKeyResponse(version=version)

    async def RotateMasterKey(  # noqa: N802
        self, request: vault_pb2.RotateMasterKeyRequest, context: object
    ) -> vault_pb2.RotateMasterKeyResponse:
        """The master key that its file holds now."""
        del request, context
        key_id = await self._vault.rotate_master()
        return vault_pb2.RotateMasterKeyResponse(master_key_id=key_id.hex())

    async def GetVaultStatus(  # noqa: N802
        self, request: vault_pb2.GetVaultStatusRequest, context: object
    ) -> vault_pb2.GetVaultStatusResponse:
        """How things stand."""
        del request, context
        status = await self._vault.status(current_tenant())
        answer = vault_pb2.GetVaultStatusResponse(
            encrypted=status.is_encrypted,
            master_key_id=status.master_id.hex(),
            data_key_count=status.data_key_count,
            older_count=status.older_count,
            previous_wrapped_count=status.previous_count,
            plain_left=status.plain_left,
        )
        for each in status.versions:
            version = answer.versions.add(
                version=each.number,
                master_key_id=each.master_id.hex(),
                current=each.number == status.current_version,
            )
            version.create_time.FromNanoseconds(each.create_time_ns)
        return answer
