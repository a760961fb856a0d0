"""Does what ended sessions had in the vector process go, once, and nothing else?"""

from llmspell.v1 import session_pb2

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.expiry import ForwardTime
from services.vector.engines.memory import MemoryVectorStorage
from services.vector.model import Metric
from services.vector.session_ends import SessionEndsFollower

SECOND_NS = 10**9


class Notes:
    """State's answers, and what was asked."""

    def __init__(self) -> None:
        self.ends: list[session_pb2.EndedSession] = []
        self.asked: list[session_pb2.ListEndedSessionsRequest] = []

    def add(self, tenant: str, session_id: str, end_time_ns: int) -> None:
        revision = len(self.ends) + 1
        end = session_pb2.EndedSession(revision=revision, tenant=tenant, session_id=session_id)
        end.end_time.FromNanoseconds(end_time_ns)
        self.ends.append(end)

    async def call(self, method, request, context, *, timeout_s):
        """As the relay does; the context may this and nothing else."""
        assert (context.tenant, context.permissions) == ("", ("session.ends",))
        asked = session_pb2.ListEndedSessionsRequest.FromString(request)
        self.asked.append(asked)
        later = [end for end in self.ends if end.revision > asked.after_revision]
        return session_pb2.ListEndedSessionsResponse(sessions=later).SerializeToString()


async def names(storage, tenant, scope):
    page = await storage.list_collections(tenant, scope, limit=10)
    return [each.collection_id for each in page.collections]


async def make(storage, tenant, scope, name):
    await storage.create_collection(tenant, scope, name, dimension=2, metric=Metric.COSINE)


async def test_what_is_older_than_the_end_goes():
    """Collections from before the end go, those from after it and those of others stay."""
    clock, notes = FakeClock(), Notes()
    storage = MemoryVectorStorage(ForwardTime(clock))
    follower = SessionEndsFollower(storage, notes)
    for tenant, scope in (("acme", "session:s"), ("acme", "session:t"), ("globex", "session:s")):
        await make(storage, tenant, scope, "old")
    clock.advance(5)
    notes.add("acme", "s", clock.now_ns())
    clock.advance(5)
    await make(storage, "acme", "session:s", "new")
    for _ in range(2):  # told again, it changes nothing more
        assert await follower.follow(0) == 1
        assert await names(storage, "acme", "session:s") == ["new"]
        assert await names(storage, "acme", "session:t") == ["old"]
        assert await names(storage, "globex", "session:s") == ["old"]
    assert await follower.follow(1, wait_s=7) == 1
    assert notes.asked[-1].after_revision == 1
    assert notes.asked[-1].wait.seconds == 7
    await storage.close()


async def test_one_that_fails_does_not_hold_up_others(monkeypatch):
    """Where a collection cannot be dropped, the next ends are followed, and it is tried again."""
    clock, notes = FakeClock(), Notes()
    storage = MemoryVectorStorage(ForwardTime(clock))
    for scope in ("session:bad", "session:good"):
        await make(storage, "acme", scope, "c")
    for session_id in ("bad", "good"):
        notes.add("acme", session_id, clock.now_ns())
    delete = storage.delete_scope

    async def refuse(tenant, scope):
        if scope == "session:bad":
            raise ServiceError(Reason.RECORD_CORRUPT, "no")
        return await delete(tenant, scope)

    monkeypatch.setattr(storage, "delete_scope", refuse)
    follower = SessionEndsFollower(storage, notes)
    assert await follower.follow(0, wait_s=7) == 2
    assert await names(storage, "acme", "session:bad") == ["c"]
    assert await names(storage, "acme", "session:good") == []
    assert await follower.follow(2, wait_s=7) == 2
    assert notes.asked[-1].wait.seconds == 1
    monkeypatch.undo()
    assert await follower.follow(2, wait_s=7) == 2
    assert notes.asked[-1].wait.seconds == 7
    assert await names(storage, "acme", "session:bad") == []
    await storage.close()
