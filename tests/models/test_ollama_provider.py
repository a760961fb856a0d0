"""Ollama's own protocol: fetching models, and telling of those on its disk."""

import asyncio
import threading
from dataclasses import replace

import pytest

from services.common.errors import Reason, ServiceError
from services.common.settings import ProviderSettings
from services.runtime.providers.presets import PRESETS
from services.runtime.providers.pulls import Pulls
from services.runtime.providers.registry import Providers, deployed
from tests.models.scripted import Cut, Reply, ScriptedServer, Until, compact, whole


def lines(*parts):
    """A stream of JSON lines, as Ollama writes it."""
    written = [part if isinstance(part, Until | Cut) else compact(part) + b"\n" for part in parts]
    return Reply(written, 200, {"content-type": "application/x-ndjson"})


@pytest.fixture
async def pull(tmp_path):
    """Let a server fetch a model, as `PullModel` does."""
    pulls, opened = Pulls(), []

    async def asked(server, model="m", *, wait_s=5.0):
        path = tmp_path / "providers.toml"
        path.write_text(f'[ollama]\nbase_url = "{server.base_url}"')
        settings = ProviderSettings(file=str(path))
        if not opened:
            opened.append(deployed(settings, None, environment={}))
        return await pulls.pull(await opened[0].get("ollama", "acme"), model, wait_s=wait_s)

    yield asked
    await pulls.close()
    for one in opened:
        await one.close()


async def test_a_fetch_goes_on_and_is_joined(pull):
    """Whoever waits too shortly is told how far it is; asking again joins the same fetch."""
    go_on = threading.Event()
    some = {"status": "pulling abc", "total": 100, "completed": 40}
    with ScriptedServer([lines(some, Until(go_on), {"status": "success"})]) as server:
        first = await pull(server, wait_s=0.3)
        assert (first.status, first.completed_bytes, first.total_bytes) == ("pulling abc", 40, 100)
        joined = asyncio.gather(pull(server), pull(server))
        await asyncio.sleep(0.05)
        go_on.set()
        assert {progress.status for progress in await joined} == {"success"}
        assert len(server.requests) == 1
        assert server.requests[0].json == {"model": "m", "stream": True}
        assert server.requests[0].path == "/api/pull"


async def test_a_fetch_that_fails_is_told_and_may_be_tried_again(pull):
    """What the server says went wrong comes back; a cut is PROVIDER_UNAVAILABLE; then it works."""
    replies = [
        lines({"status": "pulling"}, {"error": "file does not exist"}),
        lines({"status": "pulling"}, Cut()),
        lines({"status": "pulling"}),
        lines({"status": "success"}),
    ]
    with ScriptedServer(replies) as server:
        assert (await pull(server)).error == "file does not exist"
        for _ in range(2):
            with pytest.raises(ServiceError) as failed:
                await pull(server)
            assert failed.value.reason == Reason.PROVIDER_UNAVAILABLE
        assert (await pull(server)).status == "success"


async def test_fetches_have_a_limit(pull, monkeypatch):
    """One more than may be at the same time is LIMIT_EXCEEDED; another wait for one is not."""
    monkeypatch.setattr("services.runtime.providers.pulls.PROVIDER_PULLS_MAX", 1)
    never = threading.Event()
    with ScriptedServer(lambda _: lines({"status": "pulling"}, Until(never))) as server:
        await pull(server, "a", wait_s=0.1)
        await pull(server, "a", wait_s=0.1)
        with pytest.raises(ServiceError) as failed:
            await pull(server, "b")
        assert failed.value.reason == Reason.LIMIT_EXCEEDED


async def test_odd_lists_are_read_as_far_as_they_can(tmp_path):
    """Entries that are none, times that are none and a server without `/api/ps` do no harm."""
    listed = {"models": ["x", {"name": ""}, {"name": "b", "modified_at": "soon", "size": "big"}]}
    answers = {"/api/tags": whole(200, compact(listed)), "/api/version": whole(200, b"[]")}
    with ScriptedServer(lambda request: answers.get(request.path, whole(404, b"none"))) as server:
        place = replace(PRESETS["ollama"], base_url=server.base_url)
        providers = Providers({"ollama": place})
        provider = await providers.get("ollama", "acme")
        (model,) = await provider.models()
        assert (model.name, model.size_bytes, model.modified_time_s, model.loaded) == (
            "b",
            0,
            0.0,
            False,
        )
        assert await provider.facts("c") is None
        assert await provider.version() == ""
        await providers.close()
