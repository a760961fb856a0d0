"""The state process dies at each of its named failpoints, with everything going on (T1, T7).

Clients, followers, migrations, backups, restores and changes of keys run beside each other; once
that is so the point is armed, and the process ends where it next comes by. Then it is started
again, and all ledgers, every record and every blob are compared as after any kill.
"""

import asyncio
import os
import random
import re
import signal
from pathlib import Path

import grpc
import pytest

from services.common.clock import SystemClock
from services.common.relay import CHANNEL_OPTIONS
from services.state.keyring import Keyring
from services.state.master_key import read_master_keys
from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.crash.kill_rounds import Rounds
from tests.crash.ledgers.ledger import Stubs
from tests.crash.ledgers.upheavals import Keys, Restores
from tests.crash.recorder import ROOT

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

REACHED_S_MAX = 30
SEALED = (
    "vault.before_destroy",
    "vault.before_rewrap",
    "store.after_commit",
    "blobs.before_rename",
    "state.checkpoint.copied",
    "restore.slice_written",
)
"""Where values are encrypted; the first two are nowhere else."""
POINTS = (
    "backup.after_manifest",
    "backup.before_manifest",
    "backup.chunk_removed",
    "backup.chunk_written",
    "backup.manifest_removed",
    "blobs.after_rename",
    "blobs.before_flush",
    "blobs.before_rename",
    "blobs.before_unlink",
    "events.published",
    "migrations.after_final",
    "migrations.after_slice",
    "migrations.before_final",
    "migrations.before_slice",
    "migrations.in_final",
    "migrations.in_slice",
    "migrations.started",
    "restore.finished",
    "restore.marked",
    "restore.slice_written",
    "state.checkpoint.copied",
    "state.checkpoint.restored",
    "state.session.deleted",
    "store.after_commit",
    "store.after_swap",
    "store.before_commit",
    "store.before_swap",
    "transfer.between_items",
)


class PointRounds(Rounds):
    """Dies at one point after the other, with everything going on at once."""

    def __init__(self, folder, seed, keys=None):
        super().__init__(folder, seed, "", *(keys.settings if keys else ()))
        self.keys = keys
        self.background += [Restores(), *([keys] if keys else [])]
        self.armed = folder.with_name("armed")

    def ring(self):
        """See Rounds."""
        if self.keys is None:
            return super().ring()
        files = str(self.keys.current), str(self.keys.previous)
        return Keyring(read_master_keys(*files, {}), clock=SystemClock())

    def die_at(self, point):
        """Start, compare, call, and die there."""
        self.armed.unlink(missing_ok=True)
        environment = os.environ | {"LLMSPELL_FAILPOINTS": f"{point}=crash:{self.armed}"}
        with self.started("small_slices", environment) as up:
            asyncio.run(self.until_there(up))
            assert up.process.wait() == -signal.SIGKILL
        self.look()

    async def until_there(self, up):
        """Call until the process has come by."""
        async with grpc.aio.insecure_channel(up.address, options=CHANNEL_OPTIONS) as channel:
            stubs = Stubs(channel)
            await self.check(stubs)
            async with asyncio.timeout(REACHED_S_MAX):
                await self.call(stubs, self.arm(stubs))

    async def arm(self, stubs):
        """Let it die once calls have begun to be answered; only then begins what is done once."""
        enough = self.acknowledged + 10
        while self.acknowledged < enough:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        self.armed.touch()
        await asyncio.gather(*(each.run(stubs) for each in self.background))


def die_at_each(rounds, points, seed):
    order = random.Random(seed).sample(points, len(points))
    for point in order:
        try:
            rounds.die_at(point)
        except BaseException as error:
            error.add_note(f"LLMSPELL_KILL_SEED={seed} repeats this; at or before {point}: {order}")
            raise
    with rounds.started() as up:
        asyncio.run(rounds.round(up, last=True))
    rounds.look()


def test_every_point_is_killed_at():
    """A failpoint that is added to the process is added here, or this fails."""
    files = [*Path(ROOT, "services/state").rglob("*.py"), *Path(ROOT, "services/common").glob("*")]
    texts = [file.read_text("utf-8") for file in files if file.suffix == ".py"]
    named = {name for text in texts for name in re.findall(r'failpoints\.hit\(\s*"([^"]+)"', text)}
    assert named == {*POINTS, *SEALED}
    assert sum(text.count("failpoints.hit(") for text in texts) >= len(named)


def test_nothing_is_lost_at_any_point(tmp_path, reached):
    """At each of them, at some in `make test`: what was answered is there, nothing is halved."""
    seed = seed_of("LLMSPELL_KILL_SEED")
    rounds = PointRounds(tmp_path / "data", seed)
    points = random.Random(seed).sample(POINTS, min(scale.count(5, len(POINTS)), len(POINTS)))
    die_at_each(rounds, points, seed)
    reached(
        "T7",
        f"state: killed at {len(points)} of {len(POINTS)} points",
        "0 lost, 0 halves, no orphan",
        f"0 of {rounds.acknowledged} lost, {rounds.blobs} blobs verified",
    )


def test_nothing_is_lost_where_it_is_encrypted(tmp_path, reached):
    """The same with sealed values, while keys are replaced and tenants end."""
    seed = seed_of("LLMSPELL_KILL_SEED")
    rounds = PointRounds(tmp_path / "data", seed, Keys(tmp_path))
    points = random.Random(seed).sample(SEALED, min(scale.count(2, len(SEALED)), len(SEALED)))
    die_at_each(rounds, points, seed)
    reached(
        "T7",
        f"state: encrypted, killed at {len(points)} of {len(SEALED)} points",
        "0 lost, 0 halves, no orphan",
        f"0 of {rounds.acknowledged} lost, {rounds.blobs} blobs verified",
    )
