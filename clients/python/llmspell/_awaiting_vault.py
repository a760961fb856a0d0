"""Keys of what is kept encrypted, of the async client."""

from __future__ import annotations

from llmspell import _vault
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncVaultCalls(AsyncCaller):
    """What a client does with the keys under which state is kept."""

    async def rotate_tenant_key(self) -> int:
        """Make a new data key for the tenant; its version. Older values are moved to it meanwhile.

        Raises:
            FailedPrecondition: MASTER_KEY_MISSING where nothing is encrypted.
        """
        return await self._unary(_vault.rotate_tenant_key())

    async def rotate_master_key(self) -> str:
        """Put the master key into force that its file holds now; its id. The operator's call.

        Raises:
            FailedPrecondition: MASTER_KEY_MISSING where the key before is not at hand.
        """
        return await self._unary(_vault.rotate_master_key())

    async def vault_status(self) -> t.VaultStatus:
        """How things stand with keys; with a tenant, also that one's. The operator's call."""
        return await self._unary(_vault.vault_status())
