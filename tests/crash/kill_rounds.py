"""A state process that is killed again and again, and compared with what its clients know."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time

import grpc

from services.common.clock import SystemClock
from services.common.relay import CHANNEL_OPTIONS
from services.state.artifacts import Artifacts
from services.state.backup.blobs import BlobCare
from services.state.backup.folder import BackupFolder
from services.state.backup.service import Backups
from services.state.blob_seal import BlobSeal
from services.state.engines.blobs import FolderBlobs
from services.state.keyring import Keyring
from services.state.layout import BLOB_TOMBS
from tests.crash.alone import alone
from tests.crash.artifact_invariants import check_blobs
from tests.crash.ledgers.background import Copies, Orders
from tests.crash.ledgers.followers import Subscriber, Watcher
from tests.crash.ledgers.ledger import Stubs, let_in
from tests.crash.state_clients import TENANTS, Client, Counter, check_counter, until_gone
from tests.crash.state_invariants import check_state
from tests.integration.deployment import free_port
from tests.state_engines import embedded_keeper

CLIENTS, ANSWERS_MIN = 8, 100
SWEEPS = "state.sweep_interval_s=0.05"


class Rounds:
    """A process that is killed again and again, and what its clients know."""

    looks_every = 10

    def __init__(self, folder, seed, flaw="", *settings):
        self.folder, self.flaw, self.rng = folder, flaw, random.Random(seed)
        self.settings = (SWEEPS, *settings)
        self.address = f"127.0.0.1:{free_port()}"
        self.counters = {tenant: Counter() for tenant in TENANTS}
        self.clients = [
            Client(number, random.Random(f"{seed} {number}"), self.counters[TENANTS[number % 2]])
            for number in range(CLIENTS)
        ]
        self.watchers = {tenant: Watcher(tenant) for tenant in TENANTS}
        self.subscribers = {tenant: Subscriber(tenant) for tenant in TENANTS}
        self.background = [each(tenant) for tenant in TENANTS for each in (Orders, Copies)]
        self.restarts, self.blobs, self.number = [], 0, 0

    def run(self, times):
        """So many kills, each checked after the next start."""
        for number in range(times + 1):
            last = number == times
            with self.started("" if last else self.flaw) as up:
                self.restarts.append(up.start_s)
                asyncio.run(self.round(up, last=last))
            if last or number % self.looks_every == self.looks_every - 1:
                self.look()

    def started(self, flaw="", environment=os.environ):
        """The process, for a `with`."""
        return alone(
            "state",
            self.folder,
            *self.settings,
            flaw=flaw,
            address=self.address,
            environment=environment,
        )

    async def round(self, up, *, last):
        """Compare with what is known; then call until the kill."""
        async with grpc.aio.insecure_channel(up.address, options=CHANNEL_OPTIONS) as channel:
            stubs = Stubs(channel)
            await self.check(stubs)
            if not last:
                beside = self.background[self.number % len(self.background)]
                await self.call(stubs, beside.run(stubs), self.kill(up))

    async def call(self, stubs, *others):
        """All clients and followers, and what else there is, until the process is gone."""
        self.number += 1
        followers = [*self.watchers.values(), *self.subscribers.values()]
        await until_gone(self.clients, stubs, *(each.run(stubs) for each in followers), *others)

    async def kill(self, up):
        """At a random moment, after traffic enough."""
        enough = self.acknowledged + ANSWERS_MIN
        moment = time.monotonic() + self.rng.uniform(0.05, 0.3)
        while time.monotonic() < moment or self.acknowledged < enough:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        up.process.kill()

    async def check(self, stubs):
        """Every ledger, the counters, the followers, what went on beside."""
        await let_in(stubs, *{*TENANTS, *(each.tenant for each in self.background)})
        for client in self.clients:
            await client.check(stubs)
        for tenant, counter in self.counters.items():
            await check_counter(stubs, tenant, counter)
            mine = [client for client in self.clients if client.tenant == tenant]
            watcher, subscriber = self.watchers[tenant], self.subscribers[tenant]
            await watcher.catch_up(stubs)
            watcher.check(client.items for client in mine)
            await subscriber.catch_up(stubs)
            for client in mine:
                client.events.seen(subscriber.seen[client.number])
        for each in self.background:
            await each.check(stubs)

    def look(self):
        """Every record, index and blob, and the feed: of a copy, opened by nobody before."""
        copy = self.folder.with_name("copy")
        shutil.copytree(self.folder, copy)
        try:
            asyncio.run(self.look_at(copy))
        finally:
            shutil.rmtree(copy)

    async def look_at(self, folder):
        """What a kill left; then that the next start takes away what is nobody's."""
        ring = self.ring()
        keeper = embedded_keeper(folder, SystemClock(), cipher=ring)
        seal = BlobSeal(keeper.engine, ring, asyncio.get_running_loop())
        blobs = FolderBlobs(folder, seal)
        artifacts = Artifacts(keeper, blobs)
        await self.end_restores(folder, keeper, ring, artifacts.collector)
        with keeper.engine.read() as view:
            check_state(view)
            self.blobs += check_blobs(view, blobs, tidy=False)
        await artifacts.tidy_up()
        while await artifacts.sweep():
            pass
        with keeper.engine.read() as view:
            assert not view.count(BLOB_TOMBS), "blobs that were to go stay"
            check_blobs(view, blobs, tidy=True)
        await asyncio.to_thread(keeper.engine.close)

    async def end_restores(self, folder, keeper, ring, collector):
        """Go on with what was cut off between two slices, as the process does before it serves."""
        care = BlobCare(collector.blobs, collector.pins)
        backups = Backups(keeper, BackupFolder(folder / "backups"), ring=ring, care=care)
        backups.recover()
        if keeper.restoring:
            await backups.sweep()
        await backups.close()

    def ring(self):
        """How values are kept: with checksums, or encrypted."""
        return Keyring(clock=SystemClock())

    @property
    def acknowledged(self):
        """Calls answered so far."""
        return sum(client.acknowledged for client in self.clients)
