"""A migration killed before, during and after each write (T11): old or new, never between."""

import json
import os
import signal
import subprocess
import sys

import pytest

from services.state.items import Items
from services.state.migrations.model import Status
from services.state.migrations.schemas import Schemas
from tests.crash import migration_story as story
from tests.crash.recorder import ROOT

POINTS = (
    "store.before_commit",
    "store.after_commit",
    "migrations.started",
    "migrations.before_slice",
    "migrations.in_slice",
    "migrations.after_slice",
    "migrations.before_final",
    "migrations.in_final",
    "migrations.after_final",
)
WHOLE = [point for point in POINTS if not point.endswith("slice")]


def killed(folder, at_once, point):
    """Run a migration that dies at a point."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.migration_story", str(folder), str(at_once)],
        cwd=ROOT,
        env=os.environ | {"LLMSPELL_FAILPOINTS": f"{point}=crash"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


async def everything(items, tenant):
    page = await items.list(tenant, story.SCOPE, limit=1000)
    return [json.loads(each.value.content) for each in page.items]


@pytest.mark.parametrize(
    ("at_once", "point"),
    [*((0, point) for point in POINTS), *((10**6, point) for point in WHOLE)],
)
async def test_old_or_new_never_between(tmp_path, at_once, point):
    """Killed at each step, in one go and in slices: all old or all new; the next start ends it."""
    folder = tmp_path / "state"
    await story.prepare(folder)
    killed(folder, at_once, point)
    if point in {"migrations.before_slice", "migrations.in_slice", "migrations.after_slice"}:
        killed(folder, at_once, point)  # and once more where it goes on
    forms = {
        "1.0.0": [story.old(number) for number in range(story.COUNT)],
        "1.1.0": [story.new(number) for number in range(story.COUNT)],
    }
    opened = story.keeper(folder)
    items, schemas = Items(opened), Schemas(opened)
    current = (await schemas.get("acme", "orders")).family.current
    assert current == ("1.1.0" if point == "migrations.after_final" else "1.0.0")
    assert await everything(items, "acme") == forms[current]
    ended = await story.finish(opened, at_once)
    assert (ended.status, ended.items_done) == (Status.COMPLETED, story.COUNT)
    assert await everything(items, "acme") == forms["1.1.0"]
    assert await everything(items, "globex") == forms["1.0.0"]
    await items.close()
