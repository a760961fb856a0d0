"""In-process gRPC servers for unit tests: small servicers that keep what they are told.

They speak the contract's wire form, so a client cannot tell them from a deployment; they do not
check limits. Data is kept per tenant (metadata `llmspell-tenant`, else `acme`).
"""

# ruff: noqa: N802  (methods are named as in the contract)

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from blake3 import blake3
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from llmspell.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    process_pb2,
    process_pb2_grpc,
    rag_pb2,
    rag_pb2_grpc,
    script_pb2,
    script_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
    tool_pb2,
    tool_pb2_grpc,
    types_pb2,
    vault_pb2,
    vault_pb2_grpc,
    vector_pb2,
    vector_pb2_grpc,
)

KEY = "llms_test_secret"
"""The one key that the servers know."""

REQUEST_ID = "00000000000000000000000000000042"

PAGE = 2
"""Entries of a page, so that every list of three has two."""


def refuse(context: Any, code: grpc.StatusCode, reason: str, message: str, **metadata: str) -> None:
    """End the call as a door does: status, ErrorInfo, request id."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="llmspell", metadata=metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
    context.set_trailing_metadata(
        (
            ("grpc-status-details-bin", status.SerializeToString()),
            ("llmspell-request-id", REQUEST_ID),
        )
    )
    context.abort(code, message)


class Deployment:
    """What the servicers share: data by tenant, what was called, and failures to come."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str, str], state_pb2.Item] = {}
        self.artifacts: list[tuple[str, artifact_pb2.Artifact, bytes]] = []
        self.documents: dict[tuple[str, str], dict[str, rag_pb2.Document]] = {}
        self.tenants: dict[str, tenant_pb2.Tenant] = {}
        self.keys: dict[str, tenant_pb2.ApiKey] = {}
        self.requests: list[Any] = []
        self.tenants_seen: list[str] = []
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, list[Callable[[Any], None]]] = {}
        self.process_status = process_pb2.SERVING_STATUS_SERVING
        self.not_ready_reasons = []
        self.revision = 0
        self.run_left = threading.Event()
        self.seconds_left = 0.0

    def enter(self, request: Any, context: Any) -> str:
        """Count the call, fail it where asked to, check the key; the tenant."""
        name = type(request).__name__.removesuffix("Request")
        metadata = dict(context.invocation_metadata())
        self.calls[name] += 1
        self.requests.append(request)
        if self.failures.get(name):
            self.failures[name].pop(0)(context)
        if metadata.get("authorization") != f"Bearer {KEY}":
            refuse(
                context,
                grpc.StatusCode.UNAUTHENTICATED,
                "CREDENTIAL_MISSING" if "authorization" not in metadata else "CREDENTIAL_INVALID",
                "No credential was sent.",
            )
        tenant = metadata.get("llmspell-tenant", "acme")
        self.tenants_seen.append(tenant)
        return tenant

    def fail_next(self, name: str, times: int, code: grpc.StatusCode, reason: str = "") -> None:
        """Let the next calls of a method end with a status; without a reason as a proxy would."""

        def fail(context: Any) -> None:
            if reason:
                refuse(context, code, reason, "It was asked to fail.")
            context.abort(code, "asked to fail")

        self.failures[name] = [fail] * times

    def next_revision(self) -> int:
        """Rises by one a change."""
        self.revision += 1
        return self.revision


def _page(entries: list[Any], token: str) -> tuple[list[Any], str]:
    start = int(token or 0)
    end = start + PAGE
    return entries[start:end], str(end) if end < len(entries) else ""


class StateServicer(state_pb2_grpc.StateServiceServicer):
    """Items in a dictionary."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def GetState(self, request, context):
        """From the dictionary."""
        tenant = self.deployment.enter(request, context)
        item = self.deployment.items.get((tenant, request.scope, request.key))
        if item is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, "ITEM_NOT_FOUND", "No item under this key.")
        return state_pb2.GetStateResponse(item=item, revision=self.deployment.revision)

    def SetState(self, request, context):
        """Into the dictionary, under its condition."""
        tenant = self.deployment.enter(request, context)
        place = (tenant, request.scope, request.key)
        known = self.deployment.items.get(place)
        if not _holds(request.precondition, known):
            refuse(
                context,
                grpc.StatusCode.ABORTED,
                "REVISION_MISMATCH",
                "The item's revision is not the expected one.",
                key=request.key,
            )
        item = state_pb2.Item(
            key=request.key, value=request.value, revision=self.deployment.next_revision()
        )
        item.update_time.FromSeconds(1_700_000_000)
        if request.HasField("ttl"):
            item.expire_time.FromSeconds(1_700_000_000 + request.ttl.seconds)
        self.deployment.items[place] = item
        return state_pb2.SetStateResponse(revision=item.revision)

    def DeleteState(self, request, context):
        """Out of the dictionary."""
        tenant = self.deployment.enter(request, context)
        gone = self.deployment.items.pop((tenant, request.scope, request.key), None)
        return state_pb2.DeleteStateResponse(deleted_count=int(gone is not None))

    def IncrementState(self, request, context):
        """Answers with the delta."""
        self.deployment.enter(request, context)
        if request.WhichOneof("delta") == "int_delta":
            return state_pb2.IncrementStateResponse(int_value=request.int_delta)
        return state_pb2.IncrementStateResponse(double_value=request.double_delta)

    def ListState(self, request, context):
        """Two at a time."""
        tenant = self.deployment.enter(request, context)
        items = [
            item
            for (owner, scope, key), item in sorted(self.deployment.items.items())
            if owner == tenant and scope == request.scope and key.startswith(request.prefix)
        ]
        entries, token = _page(items, request.page_token)
        if request.keys_only:
            entries = [state_pb2.Item(key=item.key, revision=item.revision) for item in entries]
        return state_pb2.ListStateResponse(items=entries, next_page_token=token)

    def BatchState(self, request, context):
        """Counts the removals."""
        self.deployment.enter(request, context)
        removals = [write for write in request.writes if write.delete]
        return state_pb2.BatchStateResponse(
            revision=self.deployment.next_revision(), deleted_count=len(removals)
        )

    def WatchState(self, request, context):
        """Where it begins, then each item as it is; then the connection ends."""
        tenant = self.deployment.enter(request, context)
        last = self.deployment.revision
        after = request.after_revision if request.HasField("after_revision") else last
        yield state_pb2.WatchStateResponse(revision=after)
        for (owner, scope, key), item in sorted(
            self.deployment.items.items(), key=lambda entry: entry[1].revision
        ):
            if owner == tenant and item.revision > after and key.startswith(request.prefix):
                change = state_pb2.StateChange(
                    kind=state_pb2.STATE_CHANGE_KIND_SET,
                    scope=scope,
                    key=key,
                    revision=item.revision,
                    item=item if request.values else None,
                )
                yield state_pb2.WatchStateResponse(changes=[change], revision=item.revision)
                break
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone for a moment")


def _holds(condition: state_pb2.Precondition, item: state_pb2.Item | None) -> bool:
    kind = condition.WhichOneof("kind")
    if kind == "revision":
        return item is not None and item.revision == condition.revision
    if kind is None:
        return True
    return (item is None) == (kind == "absent")


class ArtifactServicer(artifact_pb2_grpc.ArtifactServiceServicer):
    """Artifacts with their bytes in a list, the oldest first."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def StoreArtifact(self, requests, context):
        """From a stream."""
        head = next(requests)
        tenant = self.deployment.enter(head, context)
        content = b"".join(request.chunk for request in requests)
        artifact = self._keep(tenant, head.header, content)
        yield artifact_pb2.StoreArtifactResponse(artifact=artifact)

    def PutArtifact(self, request, context):
        """From one message."""
        tenant = self.deployment.enter(request, context)
        artifact = self._keep(tenant, request.header, request.content)
        return artifact_pb2.PutArtifactResponse(artifact=artifact)

    def GetArtifact(self, request, context):
        """The newest that is meant."""
        tenant = self.deployment.enter(request, context)
        return artifact_pb2.GetArtifactResponse(artifact=self._find(tenant, request, context)[0])

    def ReadArtifact(self, request, context):
        """In two chunks."""
        tenant = self.deployment.enter(request, context)
        artifact, content = self._find(tenant, request, context)
        half = len(content) // 2
        yield artifact_pb2.ReadArtifactResponse(artifact=artifact, chunk=content[:half])
        yield artifact_pb2.ReadArtifactResponse(chunk=content[half:])

    def ListArtifacts(self, request, context):
        """Two at a time, of a scope, a type and a pattern's beginning."""
        tenant = self.deployment.enter(request, context)
        beginning = request.name_pattern.partition("*")[0]
        found = [
            artifact
            for owner, artifact, _ in self.deployment.artifacts
            if (owner, artifact.scope) == (tenant, request.scope)
            and request.artifact_type in {"", artifact.artifact_type}
            and artifact.name.startswith(beginning)
        ]
        entries, token = _page(found, request.page_token)
        return artifact_pb2.ListArtifactsResponse(artifacts=entries, next_page_token=token)

    def ListArtifactVersions(self, request, context):
        """Two at a time."""
        tenant = self.deployment.enter(request, context)
        entries, token = _page(self._versions(tenant, request), request.page_token)
        return artifact_pb2.ListArtifactVersionsResponse(artifacts=entries, next_page_token=token)

    def DeleteArtifact(self, request, context):
        """Out of the list."""
        tenant = self.deployment.enter(request, context)
        meant = self._meant(tenant, request.artifact)
        gone = meant if request.all_versions else meant[-1:]
        self.deployment.artifacts = [each for each in self.deployment.artifacts if each not in gone]
        return artifact_pb2.DeleteArtifactResponse(deleted_count=len(gone))

    def _keep(self, tenant, header, content):
        artifact = artifact_pb2.Artifact(
            scope=header.scope,
            name=header.name,
            version=len(self._versions(tenant, header)) + 1,
            sequence=self.deployment.next_revision(),
            digest=blake3(content).hexdigest(),
            size_bytes=len(content),
            artifact_type=header.artifact_type,
            mime_type=header.mime_type,
            description=header.description,
            tags=header.tags,
            metadata=header.metadata,
        )
        artifact.create_time.FromSeconds(1_700_000_000)
        self.deployment.artifacts.append((tenant, artifact, content))
        return artifact

    def _versions(self, tenant, place):
        return [
            artifact
            for owner, artifact, _ in self.deployment.artifacts
            if (owner, artifact.scope, artifact.name) == (tenant, place.scope, place.name)
        ]

    def _meant(self, tenant, choice):
        return [
            each
            for each in self.deployment.artifacts
            if (each[0], each[1].scope) == (tenant, choice.scope)
            and choice.name in {"", each[1].name}
            and choice.version in {0, each[1].version}
            and choice.digest in {"", each[1].digest}
            and choice.sequence in {0, each[1].sequence}
        ]

    def _find(self, tenant, request, context):
        meant = self._meant(tenant, request.artifact)
        if not meant:
            refuse(
                context, grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND", "There is no artifact."
            )
        return meant[-1][1:]


class VectorServicer(vector_pb2_grpc.VectorServiceServicer):
    """Answers with what it was asked, so that a test sees both directions."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def CreateCollection(self, request, context):
        """The collection that was asked for."""
        self.deployment.enter(request, context)
        collection = vector_pb2.Collection(
            scope=request.scope,
            collection_id=request.collection_id,
            dimension=request.dimension,
            metric=request.metric,
        )
        return vector_pb2.CreateCollectionResponse(collection=collection, revision=1)

    def ListCollections(self, request, context):
        """Three of them."""
        self.deployment.enter(request, context)
        collections = [
            vector_pb2.Collection(scope="global", collection_id=name, dimension=3, record_count=7)
            for name in ("a", "b", "c")
        ]
        entries, token = _page(collections, request.page_token)
        return vector_pb2.ListCollectionsResponse(collections=entries, next_page_token=token)

    def GetCollection(self, request, context):
        """One made with an embedding."""
        self.deployment.enter(request, context)
        identity = vector_pb2.EmbeddingIdentity(provider="local", model="m", dimension=384)
        collection = vector_pb2.Collection(
            scope=request.scope,
            collection_id=request.collection_id,
            metric=vector_pb2.METRIC_DOT,
            embedding=identity,
        )
        return vector_pb2.GetCollectionResponse(collection=collection)

    def DeleteCollection(self, request, context):
        """With seven records."""
        self.deployment.enter(request, context)
        return vector_pb2.DeleteCollectionResponse(deleted_count=7)

    def DeleteScope(self, request, context):
        """With eight records."""
        self.deployment.enter(request, context)
        return vector_pb2.DeleteScopeResponse(deleted_count=8)

    def UpsertVectors(self, request, context):
        """Ids, made where there are none."""
        self.deployment.enter(request, context)
        ids = [record.record_id or f"made-{n}" for n, record in enumerate(request.records)]
        return vector_pb2.UpsertVectorsResponse(record_ids=ids, revision=1)

    def GetVectors(self, request, context):
        """A record for every id but `absent`."""
        self.deployment.enter(request, context)
        records = [_record(name) for name in request.record_ids if name != "absent"]
        return vector_pb2.GetVectorsResponse(records=records)

    def ListVectors(self, request, context):
        """Three of them."""
        self.deployment.enter(request, context)
        entries, token = _page([_record(name) for name in "abc"], request.page_token)
        return vector_pb2.ListVectorsResponse(records=entries, next_page_token=token)

    def DeleteVectors(self, request, context):
        """As many as were named."""
        self.deployment.enter(request, context)
        return vector_pb2.DeleteVectorsResponse(deleted_count=len(request.record_ids))

    def Search(self, request, context):
        """The vector itself as the only hit."""
        self.deployment.enter(request, context)
        return _found(request.vector)

    def BatchSearch(self, request, context):
        """Likewise for each."""
        self.deployment.enter(request, context)
        return vector_pb2.BatchSearchResponse(results=[_found(one) for one in request.vectors])

    def GetVectorStats(self, request, context):
        """Fixed counts."""
        self.deployment.enter(request, context)
        return vector_pb2.GetVectorStatsResponse(
            collection_count=3, record_count=21, indexed_count=4, stored_bytes=5000, revision=9
        )


def _record(name: str) -> vector_pb2.VectorRecord:
    record = vector_pb2.VectorRecord(record_id=name, text=f"text of {name}", revision=3)
    record.metadata["lang"].string_value = "en"
    return record


def _found(vector: Any) -> vector_pb2.SearchResponse:
    hit = vector_pb2.Hit(record_id="r1", score=1.0, distance=0.0, vector=vector)
    hit.metadata["year"].int_value = 1999
    hit.metadata["name"].string_value = "itself"
    return vector_pb2.SearchResponse(hits=[hit], exact=True, revision=5)


class RagServicer(rag_pb2_grpc.RagServiceServicer):
    """Keeps documents; finds those that hold the text. A text of blanks only is refused."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def IngestDocuments(self, request, context):
        """One chunk a document."""
        tenant = self.deployment.enter(request, context)
        for document in request.documents:
            if "REFUSE" in document.text:
                refuse(
                    context,
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "FIELD_INVALID",
                    f"{document.document_id} is refused.",
                )
        kept = self.deployment.documents.setdefault((tenant, request.collection_id), {})
        kept.update({document.document_id: document for document in request.documents})
        return rag_pb2.IngestDocumentsResponse(
            document_ids=[document.document_id for document in request.documents],
            chunk_count=len(request.documents),
            token_count=7,
            revision=self.deployment.next_revision(),
        )

    def RetrieveDocuments(self, request, context):
        """By substring."""
        tenant = self.deployment.enter(request, context)
        kept = self.deployment.documents.get((tenant, request.collection_id), {})
        passages = [
            rag_pb2.Passage(
                record_id=f"{name}#0",
                document_id=name,
                text=document.text,
                score=0.75,
                metadata=document.metadata,
            )
            for name, document in sorted(kept.items())
            if request.text in document.text
        ]
        return rag_pb2.RetrieveDocumentsResponse(
            passages=passages[: request.limit or 10], exact=True, revision=1
        )

    def DeleteDocuments(self, request, context):
        """As many as were named."""
        self.deployment.enter(request, context)
        return rag_pb2.DeleteDocumentsResponse(deleted_count=len(request.document_ids))

    def ChunkText(self, request, context):
        """One chunk a word."""
        self.deployment.enter(request, context)
        chunks, start = [], 0
        for word in request.text.split():
            start = request.text.index(word, start)
            chunks.append(rag_pb2.TextChunk(text=word, start=start, end=start + len(word)))
            start += len(word)
        return rag_pb2.ChunkTextResponse(chunks=chunks)

    def EmbedTexts(self, request, context):
        """As long as the text, in one direction."""
        self.deployment.enter(request, context)
        identity = vector_pb2.EmbeddingIdentity(provider="local", model="m", dimension=2)
        vectors = [types_pb2.Vector(values=[len(text), 0]) for text in request.texts]
        return rag_pb2.EmbedTextsResponse(
            vectors=vectors, identity=identity, token_count=5, cached_count=1
        )

    def ListEmbeddingProviders(self, request, context):
        """The local one."""
        self.deployment.enter(request, context)
        identity = vector_pb2.EmbeddingIdentity(provider="local", model="m", dimension=384)
        provider = rag_pb2.EmbeddingProvider(name="local", identity=identity, default=True)
        return rag_pb2.ListEmbeddingProvidersResponse(providers=[provider])


class ToolServicer(tool_pb2_grpc.ToolServiceServicer):
    """Three tools, of which one can be executed: `shout`, which fails at a question."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        schema = {
            "type": "object",
            "properties": {
                "input": {"type": "string", "description": "What to shout."},
                "times": {
                    "type": "integer",
                    "default": 1,
                    "minimum": 1,
                    "description": "So often.",
                },
                "marks": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Behind.",
                },
            },
            "required": ["input"],
        }
        told = {"type": "object", "properties": {"text": {"type": "string", "description": "It."}}}
        self.tools = [
            tool_pb2.Tool(
                name=name,
                old_names=[f"old_{name}", *(["base64-encoder"] if name == "hum" else [])],
                description=f"Knows {name}.",
                version="1.2.3",
                category=category,
                level=level,
                parameters_schema=json.dumps(schema),
                result_schema=json.dumps(told),
                notes="It is loud." if name == "shout" else "",
                unavailable="no voice" if name == "sing" else "",
            )
            for name, category, level in (
                ("hum", "music", "TOOL_LEVEL_SAFE"),
                ("shout", "voice", "TOOL_LEVEL_RESTRICTED"),
                ("sing", "music", "TOOL_LEVEL_PRIVILEGED"),
            )
        ]

    def ListTools(self, request, context):
        """By category and by a word of the name."""
        self.deployment.enter(request, context)
        fitting = [
            tool
            for tool in self.tools
            if request.category in ("", tool.category) and request.query in tool.name
        ]
        page, token = _page(fitting, request.page_token)
        return tool_pb2.ListToolsResponse(tools=page, next_page_token=token)

    def GetTool(self, request, context):
        """By either name."""
        self.deployment.enter(request, context)
        return tool_pb2.GetToolResponse(tool=self._find(request.name, context))

    def ExecuteTool(self, request, context):
        """The text in capitals; every argument comes back in the metadata."""
        self.deployment.enter(request, context)
        self.deployment.seconds_left = context.time_remaining()
        tool = self._find(request.name, context)
        text = request.arguments.fields["input"].string_value
        if not text:
            refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                "FIELD_REQUIRED",
                "input must be set.",
                field="input",
            )
        answer = tool_pb2.ExecuteToolResponse(operation=tool.name, metadata=request.arguments)
        answer.elapsed.FromMilliseconds(250)
        if text.endswith("?"):
            answer.failure.message, answer.failure.code = "Questions are not shouted.", "question"
            answer.failure.details.fields["at"].int_value = len(text) - 1
            return answer
        answer.success, answer.message = True, "Shouted"
        fields = answer.result.map_value.fields
        fields["text"].string_value = text.upper()
        fields["lines"].string_value = f"{text}\n{text}"
        row = fields["rows"].list_value.values.add().map_value.fields
        row["word"].string_value, row["length"].int_value = text, len(text)
        return answer

    def _find(self, name, context):
        for tool in self.tools:
            if name in (tool.name, *tool.old_names):
                return tool
        refuse(context, grpc.StatusCode.NOT_FOUND, "TOOL_NOT_FOUND", f"Tool '{name}' not found.")
        raise AssertionError


class ScriptServicer(script_pb2_grpc.ScriptServiceServicer):
    """Runs nothing: prints the source; `fail…` fails in line 2, `wait` lasts until it is left.

    `log…` writes a line of a log and measures.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def CheckScript(self, request, context):
        """Compiles unless it begins with `syntax`."""
        self.deployment.enter(request, context)
        _fail_script(request, context)
        return script_pb2.CheckScriptResponse()

    def RunScript(self, request, context):
        """Print the source, then the arguments; return their number."""
        self.deployment.enter(request, context)
        yield script_pb2.RunScriptResponse(started=script_pb2.RunStarted(run_id="run-1"))
        if request.source == "wait":
            context.add_callback(self.deployment.run_left.set)
        data = request.source.encode()
        yield script_pb2.RunScriptResponse(output=script_pb2.RunOutput(data=data))
        if request.source == "wait":
            self.deployment.run_left.wait()
        _fail_script(request, context)
        if request.source.startswith("log"):
            line = script_pb2.RunLog(level="warn", message="low", module="db", data_json='{"n":1}')
            yield script_pb2.RunScriptResponse(log=line)
            numbers = json.dumps({"counters": {"jobs": 2}, "gauges": {}, "histograms": {}})
            yield script_pb2.RunScriptResponse(metrics=script_pb2.RunMetrics(json=numbers))
        arguments = [*request.positional_arguments, *sorted(request.named_arguments.items())]
        result = script_pb2.RunResult(json=json.dumps(len(arguments) or None), call_count=2)
        result.elapsed.FromMilliseconds(1500)
        yield script_pb2.RunScriptResponse(result=result)


def _fail_script(request: Any, context: Any) -> None:
    name = request.name or "script"
    if request.source.startswith("syntax"):
        refuse(
            context,
            grpc.StatusCode.INVALID_ARGUMENT,
            "SCRIPT_SYNTAX",
            f"{name}:1: syntax error near 'error'",
            name=name,
            line="1",
        )
    if request.source.startswith("fail"):
        refuse(
            context,
            grpc.StatusCode.FAILED_PRECONDITION,
            "SCRIPT_FAILED",
            f"{name}:2: attempt to index a nil value",
            name=name,
            line="2",
        )


class TenantServicer(tenant_pb2_grpc.TenantServiceServicer):
    """Tenants and keys in dictionaries."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def CreateTenant(self, request, context):
        """Into the dictionary."""
        self.deployment.enter(request, context)
        if request.tenant_id in self.deployment.tenants:
            refuse(
                context, grpc.StatusCode.ALREADY_EXISTS, "TENANT_EXISTS", "There is such a tenant."
            )
        tenant = tenant_pb2.Tenant(tenant_id=request.tenant_id, display_name=request.display_name)
        tenant.create_time.FromSeconds(1_700_000_000)
        self.deployment.tenants[request.tenant_id] = tenant
        return tenant_pb2.CreateTenantResponse(tenant=tenant)

    def GetTenant(self, request, context):
        """From the dictionary."""
        self.deployment.enter(request, context)
        tenant = self.deployment.tenants.get(request.tenant_id)
        if tenant is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, "TENANT_NOT_FOUND", "No such tenant.")
        return tenant_pb2.GetTenantResponse(tenant=tenant)

    def ListTenants(self, request, context):
        """Two at a time."""
        self.deployment.enter(request, context)
        tenants = [tenant for _, tenant in sorted(self.deployment.tenants.items())]
        entries, token = _page(tenants, request.page_token)
        return tenant_pb2.ListTenantsResponse(tenants=entries, next_page_token=token)

    def DeleteTenant(self, request, context):
        """Out of the dictionary."""
        self.deployment.enter(request, context)
        self.deployment.tenants.pop(request.tenant_id, None)
        return tenant_pb2.DeleteTenantResponse(deleted_item_count=3, deleted_record_count=4)

    def CreateApiKey(self, request, context):
        """Into the dictionary."""
        self.deployment.enter(request, context)
        key_id = f"k{len(self.deployment.keys)}"
        key = tenant_pb2.ApiKey(
            key_id=key_id, tenant_id=request.tenant_id, roles=request.roles or ["writer"]
        )
        self.deployment.keys[key_id] = key
        return tenant_pb2.CreateApiKeyResponse(api_key=key, key=f"llms_{key_id}_secret")

    def ListApiKeys(self, request, context):
        """Two at a time."""
        self.deployment.enter(request, context)
        keys = [key for key in self.deployment.keys.values() if key.tenant_id == request.tenant_id]
        entries, token = _page(keys, request.page_token)
        return tenant_pb2.ListApiKeysResponse(api_keys=entries, next_page_token=token)

    def RevokeApiKey(self, request, context):
        """Out of the dictionary."""
        self.deployment.enter(request, context)
        gone = self.deployment.keys.pop(request.key_id, None)
        return tenant_pb2.RevokeApiKeyResponse(revoked_count=int(gone is not None))

    def WhoAmI(self, request, context):
        """The tenant that was named."""
        tenant = self.deployment.enter(request, context)
        return tenant_pb2.WhoAmIResponse(
            principal="test", tenant_id=tenant, permissions=["state.read"]
        )


class ProcessServicer(process_pb2_grpc.ProcessServiceServicer):
    """Four processes of equal status."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def GetProcessStatus(self, request, context):
        """All four."""
        self.deployment.enter(request, context)
        processes = []
        for pid, name in enumerate(("gateway", "runtime", "vector", "state"), start=101):
            process = process_pb2.ProcessStatus(
                name=name,
                status=self.deployment.process_status,
                not_ready_reasons=self.deployment.not_ready_reasons,
                version="0.1.0",
                pid=pid,
                resident_bytes=50 * 1024 * 1024,
            )
            process.start_time.FromSeconds(1_700_000_000)
            processes.append(process)
        return process_pb2.GetProcessStatusResponse(processes=processes)

    def GetMetrics(self, request, context):
        """One number each."""
        self.deployment.enter(request, context)
        return process_pb2.GetMetricsResponse(
            processes=[
                process_pb2.ProcessMetrics(name=name, text=f'up{{process="{name}"}} 1\n')
                for name in ("gateway", "runtime", "vector", "state")
            ]
        )


class VaultServicer(vault_pb2_grpc.VaultServiceServicer):
    """Counts keys, and has none."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def RotateTenantKey(self, request, context):
        """One more."""
        self.deployment.enter(request, context)
        return vault_pb2.RotateTenantKeyResponse(version=2)

    def RotateMasterKey(self, request, context):
        """Another id."""
        self.deployment.enter(request, context)
        return vault_pb2.RotateMasterKeyResponse(master_key_id="0badcafe")

    def GetVaultStatus(self, request, context):
        """With the caller's keys where it names a tenant."""
        tenant = self.deployment.enter(request, context)
        answer = vault_pb2.GetVaultStatusResponse(
            encrypted=True, master_key_id="0badcafe", data_key_count=3, older_count=1
        )
        if tenant:
            version = answer.versions.add(version=2, master_key_id="0badcafe", current=True)
            version.create_time.FromSeconds(1_700_000_000)
        return answer


_SERVICES = ("Artifact", "Process", "Rag", "Script", "State", "Tenant", "Vault", "Vector")


@contextmanager
def serving(deployment: Deployment, *, reflected: bool = True) -> Iterator[str]:
    """A server with all services, health and, unless told otherwise, reflection; its address."""
    with ThreadPoolExecutor(max_workers=4) as workers:
        server = grpc.server(workers, options=(("grpc.so_reuseport", 0),))
        artifacts = ArtifactServicer(deployment)
        artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(artifacts, server)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(ProcessServicer(deployment), server)
        rag_pb2_grpc.add_RagServiceServicer_to_server(RagServicer(deployment), server)
        script_pb2_grpc.add_ScriptServiceServicer_to_server(ScriptServicer(deployment), server)
        state_pb2_grpc.add_StateServiceServicer_to_server(StateServicer(deployment), server)
        tenant_pb2_grpc.add_TenantServiceServicer_to_server(TenantServicer(deployment), server)
        tool_pb2_grpc.add_ToolServiceServicer_to_server(ToolServicer(deployment), server)
        vault_pb2_grpc.add_VaultServiceServicer_to_server(VaultServicer(deployment), server)
        vector_pb2_grpc.add_VectorServiceServicer_to_server(VectorServicer(deployment), server)
        liveness = health.HealthServicer()
        liveness.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(liveness, server)
        names = [f"llmspell.v1.{name}Service" for name in _SERVICES]
        if reflected:
            reflection.enable_server_reflection((*names, health.SERVICE_NAME), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
