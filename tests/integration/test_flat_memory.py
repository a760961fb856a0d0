"""Memory stays flat through a large artifact, a long list and an export of both.

Little in `make test`; `LLMSPELL_MEMORY_SCALE=1` does it with 1 GiB and a million items, within the
same limits.
"""

import os

import pytest

from tests.performance import state_memory

SCALE = float(os.environ.get("LLMSPELL_MEMORY_SCALE", "0.03"))
MEGABYTES = round(state_memory.MEGABYTES * SCALE)
ITEMS = round(state_memory.ITEMS * SCALE)
GROWN_MIB_MAX = {"state": 40, "gateway": 56, "client": 40}
"""Of messages on their way; what is stored is more."""


@pytest.mark.timeout(120 + 1200 * SCALE)
def test_memory_stays_flat(fresh_deployment):
    """State process, gateway and client take no more for much than for little."""
    for _ in state_memory.tell(fresh_deployment, "globex", 2, 1000):
        pass
    for grown in state_memory.tell(fresh_deployment, "acme", MEGABYTES, ITEMS):
        for name, mib in grown.mib.items():
            assert mib < GROWN_MIB_MAX[name], f"{grown.part}: {name} took {mib:.0f} MiB more"
