"""Running scripts in tests: what a run gave, and a host that answers from a table."""

import contextlib
import dataclasses
import json
from pathlib import Path

from services.common.errors import ServiceError, reason_name
from services.runtime.runs import Output, Reply, Result, RunLimits, RunSpec, run_script

SCRIPTS = Path(__file__).parents[2] / "scripts"


@dataclasses.dataclass
class Ran:
    """What came of a run."""

    output: bytes = b""
    value: object = None
    error: ServiceError | None = None
    events: list = dataclasses.field(default_factory=list)

    @property
    def reason(self):
        """The error's reason by name; None where the run ended well."""
        return self.error and reason_name(self.error.reason)


async def no_calls(call):
    """A host that no script should call."""
    raise AssertionError(f"unexpected call of {call.method}")


async def run(
    pool,
    source,
    call=no_calls,
    *,
    name="demo.lua",
    positional=(),
    named=None,
    facts=None,
    globals_off=(),
    **limits,
):
    """Run a script to its end; `limits` are those of RunLimits."""
    limits.setdefault("wall_s", 120.0)  # a machine with much other work
    told = {"facts": facts or {}, "globals_off": frozenset(globals_off)}
    spec = RunSpec(source, name, positional, named or {}, RunLimits(**limits), **told)
    ran = Ran()
    try:
        async with contextlib.aclosing(run_script(pool, spec, call)) as events:
            async for event in events:
                ran.events.append(event)
                if isinstance(event, Output):
                    ran.output += event.data
                elif isinstance(event, Result):
                    ran.value = json.loads(event.json)
    except ServiceError as error:
        ran.error = error
    return ran


def failure(reason, code="NOT_FOUND", message="No.", **metadata):
    """A host's refusal."""
    tree = {"code": code, "reason": reason, "message": message, "metadata": metadata}
    return Reply(ok=False, tree=tree)


class Host:
    """State, RAG and vector services just real enough to test what Lua makes of them.

    Items are kept by tenant, scope and key. Every call is kept in `calls`.
    """

    def __init__(self, page_size=1000):
        self.calls = []
        self.items = {}
        self.documents = []
        self.page_size = page_size

    async def __call__(self, call):
        """Answer by the method's name."""
        self.calls.append(call)
        return getattr(self, call.method.partition("/")[2])(call.tenant, **call.args)

    def GetState(self, tenant, *, scope, key):  # noqa: N802
        """The item, if there is one."""
        if (tenant, scope, key) not in self.items:
            return failure("ITEM_NOT_FOUND", message="No item.", key=key)
        value, _ = self.items[tenant, scope, key]
        return Reply(ok=True, tree={"item": {"key": key, "value": value}, "revision": 1})

    def SetState(self, tenant, *, scope, key, value, ttl=None):  # noqa: N802
        """Keeps it."""
        self.items[tenant, scope, key] = value, ttl
        return Reply(ok=True, tree={"revision": 1})

    def DeleteState(self, tenant, *, scope, key):  # noqa: N802
        """Drops it."""
        gone = self.items.pop((tenant, scope, key), None)
        return Reply(ok=True, tree={"deleted_count": int(gone is not None)})

    def ListState(  # noqa: N802
        self, tenant, *, scope, keys_only, page_size, page_token="", prefix=""
    ):
        """Pages that are smaller than asked for."""
        assert keys_only
        assert page_size == 1000
        keys = sorted(k for t, s, k in self.items if (t, s) == (tenant, scope))
        keys = [key for key in keys if key.startswith(prefix)]
        first = int(page_token or 0)
        last = first + self.page_size
        token = str(last) if last < len(keys) else ""
        items = [{"key": key} for key in keys[first:last]]
        return Reply(ok=True, tree={"items": items, "next_page_token": token})

    def BatchState(self, tenant, **_):  # noqa: N802
        """Says what no script should rely on."""
        sums = [{"int_value": 3}, {"decimal_value": "0.3"}, {"double_value": 1.5}, {}]
        return Reply(ok=True, tree={"revision": 4, "deleted_count": 1, "sums": sums})

    def IngestDocuments(self, tenant, *, documents, **_):  # noqa: N802
        """One chunk and three tokens a document."""
        self.documents += documents
        ids = [document.get("document_id", "made") for document in documents]
        count = len(documents)
        tree = {"document_ids": ids, "chunk_count": count, "token_count": 3 * count}
        return Reply(ok=True, tree=tree)

    def RetrieveDocuments(self, tenant, **_):  # noqa: N802
        """Always the same two passages."""
        passages = [
            {
                "record_id": f"d{n}#0",
                "document_id": f"d{n}",
                "chunk_index": 0,
                "text": f"text {n}",
                "score": 1.0 / n,
                "metadata": {"n": n},
            }
            for n in (1, 2)
        ]
        path = {"path": "MATCHES", "complete": True, "candidate_count": 9, "match_count": 2}
        tree = {"passages": passages, "exact": True, "revision": 3, **path}
        return Reply(ok=True, tree=tree)

    def GetVectorStats(self, tenant, *, scope=""):  # noqa: N802
        """Fixed numbers."""
        tree = {"collection_count": 2, "record_count": 30, "indexed_count": 4, "stored_bytes": 500}
        tree |= {"history_count": 5, "segment_count": 1, "dead_count": 6, "search_count": 8}
        return Reply(ok=True, tree=tree)

    def DeleteScope(self, tenant, *, scope):  # noqa: N802
        """Fixed number."""
        return Reply(ok=True, tree={"deleted_count": 7})

    def ListEmbeddingProviders(self, tenant):  # noqa: N802
        """Two of them."""
        return Reply(ok=True, tree={"providers": [{"name": "local"}, {"name": "openai"}]})

    def DeleteDocuments(self, tenant, *, document_ids, **_):  # noqa: N802
        """Two chunks each."""
        return Reply(ok=True, tree={"deleted_count": 2 * len(document_ids)})

    def ListDocuments(self, tenant, *, page_size, page_token="", **_):  # noqa: N802
        """Three documents, in pages that are smaller than asked for."""
        first = int(page_token or 0)
        last = min(first + min(page_size, self.page_size), 3)
        documents = [{"document_id": f"d{n}", "chunk_count": n} for n in range(first, last)]
        token = str(last) if last < 3 else ""
        return Reply(ok=True, tree={"documents": documents, "next_page_token": token})

    def CheckpointIndex(self, tenant, *, collection_id, **_):  # noqa: N802
        """Done; `absent` is not there, `shut` is refused."""
        if collection_id == "absent":
            return failure("COLLECTION_NOT_FOUND")
        if collection_id == "shut":
            return failure("PERMISSION_DENIED", "PERMISSION_DENIED")
        return Reply(ok=True, tree={"indexed_count": 1})

    def EnsureDocumentCollection(self, tenant, **_):  # noqa: N802
        """Done."""
        return Reply(ok=True, tree={"collection": {}, "revision": 1})

    def ConfigureScope(self, tenant, **_):  # noqa: N802
        """Done."""
        return Reply(ok=True, tree={"revision": 1})

    def ReembedCollection(self, tenant, **_):  # noqa: N802
        """Half way."""
        active = {"provider": "local", "model": "m", "dimension": 3}
        tree = {"status": "RUNNING", "active": active, "done_count": 5, "total_count": 10}
        return Reply(ok=True, tree={"reembedding": tree})

    def GetReembedding(self, tenant, **_):  # noqa: N802
        """There is none."""
        return Reply(ok=True, tree={"reembedding": {"status": "UNSPECIFIED", "message": ""}})

    def EndReembedding(self, tenant, **_):  # noqa: N802
        """Fixed number."""
        return Reply(ok=True, tree={"deleted_count": 4})
