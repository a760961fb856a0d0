"""What the client asks of the vault and how it reads the answers."""

from llmspell import AsyncClient, Client

from tests.fake_deployment import KEY


def test_rotation(client):
    """A new data key's version, and the id of the master key in force."""
    assert client.rotate_tenant_key() == 2
    assert client.rotate_master_key() == "0badcafe"


def test_status(client, address):
    """Counts, and the tenant's own keys."""
    found = client.vault_status()
    assert (found.encrypted, found.data_key_count, found.older_count) == (True, 3, 1)
    key = found.versions[0]
    assert (key.version, key.current, key.create_time.year) == (2, True, 2023)
    with Client(address, KEY, tenant="globex") as other:
        assert other.vault_status().plain_left is False


async def test_async(address):
    """The same three, awaited."""
    async with AsyncClient(address, KEY) as client:
        assert await client.rotate_tenant_key() == 2
        assert await client.rotate_master_key() == "0badcafe"
        assert (await client.vault_status()).master_key_id == "0badcafe"
