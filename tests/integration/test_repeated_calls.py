"""Sessions and artifacts whose calls are repeated under one id, through all processes."""

import asyncio
import os

import pytest
from llmspell import AsyncClient, Client, InvalidArgument, _sessions

LARGE = os.urandom(3 * 2**20)


def repeated(client, call, request_id):
    """What a call answers twice under one id; the second answer must be the first."""
    call.request.request_id = request_id
    first = client._unary(call)
    assert client._unary(call) == first
    return first


def test_session_calls_are_made_once(deployment):
    """A repeated creation or checkpoint makes one, and a repeated move is no error."""
    tenants = deployment.tenant("repeat-a"), deployment.tenant("repeat-b")
    made = []
    for tenant in tenants:
        with Client(deployment.address, deployment.keys[tenant]) as client:
            new = dict.fromkeys(("timeout_s", "retention_s", "auto_save_s", "metadata"))
            call = _sessions.create("n", session_id="", description="", tags=(), parent="", **new)
            session = repeated(client, call, "create").session_id
            made.append(session)
            taken = repeated(client, _sessions.create_checkpoint(session, "c"), "checkpoint")
            assert taken.checkpoint_id == "c1"
            assert repeated(client, _sessions.suspend(session), "suspend").status == "suspended"
            assert repeated(client, _sessions.complete(session), "end").status == "completed"
            assert repeated(client, _sessions.delete(session), "delete") is True
            assert list(client.list_sessions()) == []
    assert made[0] != made[1]


def test_stores_are_made_once(deployment):
    """Small and large content is stored once under one id; other content under it is refused."""
    tenants = deployment.tenant("repeat-a"), deployment.tenant("repeat-b")
    for tenant in tenants:
        with Client(deployment.address, deployment.keys[tenant]) as client:
            for name, content in (("small", b"x" * 10), ("large", LARGE)):
                first = client.put_artifact(name, content, request_id=name)
                assert client.put_artifact(name, content, request_id=name) == first
                with pytest.raises(InvalidArgument) as refused:
                    client.put_artifact(name, content + b"!", request_id=name)
                assert refused.value.reason == "REQUEST_ID_REUSED"
                with pytest.raises(InvalidArgument):
                    client.put_artifact(name, content, request_id=name, tags=["other"])
                assert [each.version for each in client.list_artifact_versions(name)] == [1]
                assert client.put_artifact(name, content).version == 2


def test_stores_go_on_over_kills(fresh_deployment, tmp_path):
    """What is stored while the state process is killed is there once, by both clients."""
    up = fresh_deployment
    path = tmp_path / "content"
    path.write_bytes(LARGE)

    async def put():
        async with AsyncClient(up.address, up.keys["globex"]) as client:
            up.kill("state")
            return await client.put_artifact("path", path)

    with Client(up.address, up.keys["acme"]) as acme:
        for name, content in (("bytes", LARGE), ("path", path), ("small", b"x")):
            up.kill("state")
            assert acme.put_artifact(name, content).version == 1
            assert [each.version for each in acme.list_artifact_versions(name)] == [1]
    assert asyncio.run(put()).version == 1
