"""Memory that was used once does not stay."""

import sys

import pytest

from services.vector.segments import footprint

BLOCKS, BYTES = 40_000, 1000

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only glibc is asked to give memory back"
)


def holes():
    """Use 40 MB and leave them free behind one block that stays."""
    blocks = [bytes(BYTES) for _ in range(BLOCKS)]
    last = bytes(BYTES)
    del blocks
    return last


def test_what_is_free_goes_back_once_a_second(tmp_path, monkeypatch):
    """And not with every slice of a sweep, as it takes a millisecond."""
    kept = footprint.Footprint(tmp_path)
    before = footprint.own_bytes()
    stays = [holes()]
    assert footprint.own_bytes() > before + BLOCKS * BYTES // 2
    kept.trim(0)
    assert footprint.own_bytes() < before + BLOCKS * BYTES // 2
    stays.append(holes())
    kept.trim(0)
    assert footprint.own_bytes() > before + BLOCKS * BYTES // 2
    monkeypatch.setattr(footprint, "TRIM_EVERY_S", 0.0)
    kept.trim(0)
    assert footprint.own_bytes() < before + BLOCKS * BYTES // 2
    assert stays
