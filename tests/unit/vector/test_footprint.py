"""Memory that was used once does not stay."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

MANY = 20 * 1024**2
"""Half of what each use takes."""
CODE = """
import json, pathlib, sys
from services.vector.segments import footprint

def used_once():
    blocks = [bytes(1000) for _ in range(40_000)]
    return bytes(1000)  # stays, behind what becomes free

seen = []
def see():
    seen.append(footprint.own_bytes())

kept = footprint.Footprint(pathlib.Path(sys.argv[1]))
see()
stays = [used_once()]
see()
kept.trim(0)
see()
stays.append(used_once())
kept.trim(0)
see()
footprint.TRIM_EVERY_S = 0.0
kept.trim(0)
see()
held = [bytes(1000) for _ in range(40_000)]
stays.append(bytes(1000))
kept.trim(0)
del held
kept.trim(0)
see()
footprint.GIVE_EVERY_S = 0.0
kept.trim(0)
see()
print(json.dumps(seen))
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="this C library cannot be asked to give memory back",
)
def test_what_is_free_goes_back_once_a_second(tmp_path):
    """And not with every slice of a sweep, as it takes a millisecond."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    before, used, trimmed, too_soon, again, unseen, in_the_end = json.loads(done.stdout)
    assert used > before + MANY
    assert trimmed < before + MANY
    assert too_soon > before + MANY
    assert again < before + MANY
    assert unseen > before + MANY  # freed after the last look, which saw no growth since
    assert in_the_end < before + MANY
