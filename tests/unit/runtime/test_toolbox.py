"""Finding tools, who may execute them, and their arguments."""

import pytest
import pytest_asyncio

from services.common.errors import Reason, ServiceError
from tests.unit.runtime.tooling import caller, open_toolbox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox(tmp_path_factory):
    """The real tools."""
    async with open_toolbox(tmp_path_factory.mktemp("tenants")) as toolbox:
        yield toolbox


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_tool_answers_by_each_of_its_names(toolbox):
    """Today's name, the one with underscores and old parameter names mean the same."""
    for name in ("base64-encoder", "base64_encoder"):
        done = await toolbox.execute(name, {"operation": "encode", "text": "hi"}, caller())
        assert done.result == {"output": "aGk=", "variant": "standard", "binary": False}


async def test_a_name_that_is_nearly_one_is_told(toolbox):
    """TOOL_NOT_FOUND says which was probably meant."""
    with pytest.raises(ServiceError) as caught:
        await toolbox.execute("base64-encode", {}, caller())
    assert caught.value.reason == Reason.TOOL_NOT_FOUND
    assert "base64-encoder" in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({}, Reason.FIELD_REQUIRED, "operation"),
        ({"operation": "shout"}, Reason.FIELD_INVALID, "operation"),
        ({"operation": "encode", "colour": 1}, Reason.FIELD_INVALID, "colour"),
        ({"operation": "encode", "input": 3}, Reason.FIELD_INVALID, "input"),
    ],
)
async def test_arguments_are_checked_before_anything_happens(toolbox, arguments, reason, field):
    """What the schema does not allow is refused, and the field is named."""
    with pytest.raises(ServiceError) as caught:
        await toolbox.execute("base64-encoder", arguments, caller())
    assert (caught.value.reason, caught.value.metadata["field"]) == (reason, field)
