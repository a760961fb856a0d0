"""The real tools in real jailed processes; one zygote for each test file."""

import jsonschema_rs
import pytest
import pytest_asyncio

from services.common.errors import ServiceError
from tests.unit.runtime.tooling import caller, open_toolbox, tenant_folder


class Hand:
    """Executes tools for a test, as the tenant `acme`."""

    def __init__(self, toolbox, folder):
        self.toolbox = toolbox
        self.folder = folder
        """Of acme's files."""

    async def outcome(self, name, /, **arguments):
        done = await self.toolbox.execute(name, arguments, caller())
        if done.failure is None:
            # Whatever a test asks for, the answer is as the tool's own schema says.
            entry = await self.toolbox.find(name)
            jsonschema_rs.validator_for(dict(entry.result)).validate(done.result)
        return done

    async def result(self, name, /, **arguments):
        done = await self.outcome(name, **arguments)
        assert done.failure is None, done.failure
        return done.result

    async def refusal(self, name, /, **arguments):
        with pytest.raises(ServiceError) as caught:
            await self.outcome(name, **arguments)
        return caught.value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hand(tmp_path_factory):
    place = tmp_path_factory.mktemp("tenants")
    async with open_toolbox(place) as toolbox:
        yield Hand(toolbox, tenant_folder(place, "acme"))
