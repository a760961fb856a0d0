"""Keys of what is kept encrypted, of the blocking client."""

from __future__ import annotations

from llmspell import _vault
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class VaultCalls(BlockingCaller):
    """What a client does with the keys under which state is kept."""

    def rotate_tenant_key(self) -> int:
        """Make a new data key for the tenant; its version. Older values are moved to it meanwhile.

        Raises:
            FailedPrecondition: MASTER_KEY_MISSING where nothing is encrypted.
        """
        return self._unary(_vault.rotate_tenant_key())

    def rotate_master_key(self) -> str:
        """Put the master key into force that its file holds now; its id. The operator's call.

        Raises:
            FailedPrecondition: MASTER_KEY_MISSING where the key before is not at hand.
        """
        return self._unary(_vault.rotate_master_key())

    def vault_status(self) -> t.VaultStatus:
        """How things stand with keys; with a tenant, also that one's. The operator's call."""
        return self._unary(_vault.vault_status())
