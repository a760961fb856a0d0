"""The state process: its parts, in the order in which they are made."""

from __future__ import annotations

from pathlib import Path

import grpc
from llmspell.v1 import process_pb2_grpc, state_pb2_grpc

from services.common.clock import SystemClock
from services.common.context import Seal, derive_key, read_key
from services.common.door import Door, SealedContext
from services.common.expiry import sweep_forever
from services.common.paging import PageTokens
from services.common.process import SERVICE as PROCESS_SERVICE
from services.common.process import ProcessServicer
from services.common.server import Parts
from services.common.settings import Settings
from services.common.telemetry import Counts
from services.state.engine import open_engine
from services.state.items import Items
from services.state.servicers.state import StateServicer
from services.state.step import Keeper
from services.state.watch import Watches

STATE_SERVICE = "llmspell.v1.StateService"


async def build(settings: Settings) -> Parts:
    """Open the store, which recovers by itself, and prepare to serve."""
    mine = settings.state
    clock, counts = SystemClock(), Counts()
    key = read_key(Path(settings.deployment.context_key_file))
    keeper = Keeper(open_engine(mine.engine, Path(mine.data)), clock=clock)
    items, watches = Items(keeper), Watches(keeper)

    def register(server: grpc.aio.Server) -> None:
        state = StateServicer(items, watches, PageTokens(derive_key(key, "state pages")))
        state_pb2_grpc.add_StateServiceServicer_to_server(state, server)
        process = ProcessServicer("state", counts, clock)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)

    return Parts(
        listen=mine.listen,
        door=Door(SealedContext(Seal(key, clock)), counts, calls_at_once=mine.calls_at_once),
        register=register,
        services=(STATE_SERVICE, PROCESS_SERVICE),
        reflection=mine.reflection,
        background=(lambda: sweep_forever(items, mine.sweep_interval_s), watches.run),
        close=items.close,
    )
