"""A fake deployment for each test of the client."""

import pytest
from llmspell import AsyncClient, Client

from tests.fake_deployment import KEY, Deployment, serving


@pytest.fixture
def deployment():
    """What the fake servers share."""
    return Deployment()


@pytest.fixture
def address(deployment):
    """Where they serve."""
    with serving(deployment) as where:
        yield where


@pytest.fixture
def client(address):
    """A blocking client of theirs, for the tenant acme."""
    with Client(address, KEY) as connected:
        yield connected


@pytest.fixture
async def async_client(address):
    """An asyncio client of theirs, for the tenant acme."""
    async with AsyncClient(address, KEY) as connected:
        yield connected
