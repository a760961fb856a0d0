"""`make soak`: SECONDS of clients and faults, by a SEED that is printed.

It ends with a table of figures, and with 1 where something did not hold; the seed then replays the
faults, their order and pauses, and the folder with the logs and the data stays. MODULE names a
broken build to run in place of the state process, as in
`MODULE="tests.crash.broken cut_batches=0.05"`.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.crash.soak.figures import report
from tests.crash.soak.limits import check_vitals
from tests.crash.soak.storm import Soak
from tests.integration.apart import apart


def main() -> int:
    """Run it and print; see the module."""
    seconds = float(os.environ.get("SECONDS") or 600)
    seed = int(os.environ.get("SEED") or random.getrandbits(32))
    module = os.environ.get("MODULE", "").split()
    modules = {"state": tuple(module)} if module else {}
    sys.stdout.write(f"SEED={seed} SECONDS={seconds:g}\n")
    sys.stdout.flush()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    with apart(folder / "up", modules=modules) as up:
        soak = Soak(up, seed=seed, seconds=seconds)
        broken = _broken(soak)
    sys.stdout.write(f"\n{report(soak)}\n\n{broken}SEED={seed} ")
    sys.stdout.write(f"DID NOT HOLD: {folder}\n" if broken else "held\n")
    if not broken:
        shutil.rmtree(folder)
    return 1 if broken else 0


def _broken(soak: Soak) -> str:
    """Why it did not hold; empty where it did."""
    try:
        asyncio.run(soak.run())
        check_vitals(soak)
    except Exception:  # noqa: BLE001  (whatever it is, the figures are told and the seed)
        told = [str(fault) for fault in soak.lived[-3:]]
        at = time.strftime("%H:%M:%S")
        return f"{traceback.format_exc()}\nat {at}, after {told}\n"
    return ""


if __name__ == "__main__":
    sys.exit(main())
