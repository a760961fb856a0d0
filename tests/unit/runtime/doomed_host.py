"""A runtime that executes tools until it is killed: `FOLDER`, and a JSON list of what on stdin."""

import asyncio
import json
import sys
from pathlib import Path

from services.common.clock import SystemClock
from services.runtime.tools.receipts import Receipts
from tests.unit.runtime.receipt_parts import ZYGOTE, claim_of
from tests.unit.runtime.tooling import caller, open_toolbox


async def main(folder, orders):
    """Execute all at once; say before by which process."""
    receipts = Receipts(Path(folder), SystemClock())
    async with open_toolbox(Path(folder), zygote=ZYGOTE, receipts=receipts) as toolbox:
        await toolbox.entries()
        sys.stdout.write(f"{toolbox._pool.zygote_pid}\n")
        sys.stdout.flush()
        going = (
            toolbox.execute(
                order["tool"],
                {"source": order["source"]},
                caller(order["tenant"]),
                claim=claim_of(order["receipt"]),
                timeout_s=order["timeout_s"],
            )
            for order in orders
        )
        await asyncio.gather(*going, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.load(sys.stdin)))
