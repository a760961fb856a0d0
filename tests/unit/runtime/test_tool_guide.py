"""Does the tool of the guide work, and does the test that the guide writes for it pass?"""

import pytest

from services.common.errors import Reason, ServiceError
from tests.unit.runtime import page_zygote
from tests.unit.runtime.tooling import caller, open_toolbox, tenant_folder


async def test_the_tool_of_the_guide(tmp_path):
    """It is executed in a jailed process, its own test passes, and it reads the tenant's file."""
    names = {"pytest": pytest, "ServiceError": ServiceError, "caller": caller}
    exec(compile(page_zygote.TEST, "tools.md", "exec"), names)
    async with open_toolbox(tmp_path, zygote=page_zygote.__name__) as toolbox:
        await names["test_words_are_counted"](toolbox)
        (tenant_folder(tmp_path) / "a.txt").write_text("one\ntwo three\n")
        done = await toolbox.execute("word_counter", {"path": "a.txt"}, caller())
        assert done.result == {"words": 3, "lines": 2}
        with pytest.raises(ServiceError) as caught:
            await toolbox.execute("word-counter", {"path": "a.txt"}, caller("globex"))
        assert caught.value.reason == Reason.FILE_NOT_FOUND
