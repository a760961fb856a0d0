"""The vector process: its parts, in the order in which they are made."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import grpc
from llmspell.v1 import (
    process_pb2_grpc,
    rag_pb2_grpc,
    vector_admin_pb2_grpc,
    vector_pb2_grpc,
)

from services.common.bearers import inner_door
from services.common.clock import SystemClock
from services.common.context import Seal, derive_key, read_key
from services.common.errors import Reason, ServiceError
from services.common.expiry import ForwardTime, sweep_forever
from services.common.members import AnyMember, Members
from services.common.paging import PageTokens
from services.common.process import SERVICE as PROCESS_SERVICE
from services.common.process import ProcessServicer
from services.common.relay import Relay
from services.common.server import Parts
from services.common.settings import Settings, VectorSettings
from services.common.standing import Standing
from services.common.tenants import SystemItems, Tenants
from services.common.tls import ProcessTls, process_tls
from services.common.vitals import Readiness, Vitals
from services.vector.allowances import Allowances
from services.vector.embedding import open_providers
from services.vector.embedding.provider import (
    EmbeddingSettings,
    LocalSettings,
    OpenAISettings,
    Providers,
)
from services.vector.engines import open_engine
from services.vector.limits_watch import LimitsWatch
from services.vector.measures import add_vector_metrics
from services.vector.rag import Rag
from services.vector.reembed import Reembedder
from services.vector.retrieval import Retriever
from services.vector.segments.footprint import share_heap
from services.vector.servicers.rag import RagServicer
from services.vector.servicers.vector import VectorServicer
from services.vector.servicers.vector_admin import VectorAdminServicer
from services.vector.session_ends import SessionEndsFollower
from services.vector.storage import VectorStorage

log = logging.getLogger(__name__)

_SWITCH_S = 0.0005
"""How long the writer, or a sweep of thousands of records, may keep the interpreter from searches
that wait; Python's own 5 ms would be most of a search's time."""

VECTOR_SERVICE = "llmspell.v1.VectorService"
ADMIN_SERVICE = "llmspell.v1.VectorAdminService"
RAG_SERVICE = "llmspell.v1.RagService"
_STATE_SERVICE = "llmspell.v1.StateService"
_SESSION_SERVICE = "llmspell.v1.SessionService"


async def build(settings: Settings) -> Parts:
    """Open the store, which recovers by itself, and prepare to serve."""
    share_heap()
    sys.setswitchinterval(_SWITCH_S)
    mine = settings.vector
    clock, tls = SystemClock(), process_tls(settings, "vector")
    key = read_key(Path(settings.deployment.context_key_file))
    providers = open_providers(_embedding_settings(mine))
    allowances = Allowances()
    engine = open_engine(
        mine.engine,
        Path(mine.data),
        clock=ForwardTime(clock),
        exact_threshold=mine.exact_threshold,
        allowances=allowances,
    )
    storage = engine.storage
    reembedder = Reembedder(storage, providers, engine.embeddings)

    seal = Seal(key, clock)
    state = Members("state", mine.state, wait_s=0, tls=tls)  # what was known counts meanwhile
    vitals, warm = _vitals(state, tls)
    route = AnyMember(state)
    relay = Relay({_SESSION_SERVICE: route, _STATE_SERVICE: route}, seal)
    follower = SessionEndsFollower(storage, relay)
    tenants = Tenants(SystemItems(relay, principal="vector"), clock)
    standing, watch = Standing(tenants), LimitsWatch(tenants, allowances)

    searches = add_vector_metrics(vitals.metrics, engine)

    def register(server: grpc.aio.Server) -> None:
        pages = PageTokens(derive_key(key, "vector pages"))
        vectors = VectorServicer(storage, pages, searches, engine.embeddings)
        vector_pb2_grpc.add_VectorServiceServicer_to_server(vectors, server)
        admin = VectorAdminServicer(storage)
        vector_admin_pb2_grpc.add_VectorAdminServiceServicer_to_server(admin, server)
        rag = RagServicer(
            Rag(storage, providers, engine.embeddings),
            Retriever(storage, providers, engine.embeddings),
            reembedder,
            providers,
            PageTokens(derive_key(key, "document pages")),
            searches=searches,
        )
        rag_pb2_grpc.add_RagServiceServicer_to_server(rag, server)
        process = ProcessServicer(vitals, clock)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)

    most, gates = mine.calls_at_once, (watch.gate,)
    return Parts(
        listen=mine.listen,
        door=inner_door(
            vitals, key, clock, "vector", calls_at_once=most, gates=gates, standing=standing
        ),
        register=register,
        services=(VECTOR_SERVICE, ADMIN_SERVICE, RAG_SERVICE, PROCESS_SERVICE),
        reflection=mine.reflection,
        trunk=seal,
        background=(
            state.run,
            lambda: sweep_forever(storage, mine.sweep_interval_s),
            lambda: _warm_up(providers, storage, warm),
            reembedder.run,
            follower.run,
            watch.run,
        ),
        close=lambda: _close(standing, state, providers, storage),
        vitals=vitals,
        metrics_listen=mine.metrics_listen,
    )


async def _close(
    standing: Standing, state: Members, providers: Providers, storage: VectorStorage
) -> None:
    await standing.close()
    await state.close()
    await providers.close()
    await storage.close()


def _embedding_settings(settings: VectorSettings) -> EmbeddingSettings:
    return EmbeddingSettings(
        default_provider=settings.embedding_provider,
        local=LocalSettings(threads=settings.embedding_threads),
        openai=OpenAISettings(
            base_url=settings.openai_base_url,
            api_key=_secret(settings.openai_api_key_file),
            model=settings.openai_model,
            dimension=settings.openai_dimension,
        ),
    )


def _secret(file: str) -> str:
    if not file:
        return ""
    try:
        return Path(file).read_text("utf-8").strip()
    except OSError as error:
        raise ServiceError(
            Reason.CONFIG_INVALID,
            f"The key of openai cannot be read from {file}: {error.strerror}.",
            key="vector.openai_api_key_file",
            file=file,
        ) from None


async def _warm_up(providers: Providers, storage: VectorStorage, warm: asyncio.Event) -> None:
    """Load the default model before the process is ready; what fails then fails again when used.

    Where there are no texts yet, vectors may be all that is wanted, and a model takes memory.
    """
    try:
        if await storage.has_texts():
            await providers.load()
    except ServiceError as error:
        log.warning("the embedding model is not ready: %s", error.message)
    warm.set()
    await asyncio.Event().wait()


def _vitals(state: Members, tls: ProcessTls) -> tuple[Vitals, asyncio.Event]:
    """And what is set once the embedding model is loaded."""
    warm = asyncio.Event()

    def model() -> str:
        return "" if warm.is_set() else "the embedding model loads"

    readiness = Readiness({"state": state.any_serves}, parts=(model,))
    return Vitals("vector", readiness=readiness, tls=tls), warm
