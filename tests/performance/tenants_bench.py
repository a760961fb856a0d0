"""Ten thousand tenants, a thousand of them active: what their calls take, against one tenant's.

`python -m tests.performance.tenants_bench [TENANTS ACTIVE]`. Records are written straight into the
registry's items; the calls are reads of an item at one total rate, open loop, from one process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from blake3 import blake3
from llmspell.v1 import state_pb2

from services.common.clock import SystemClock
from services.common.context import Seal, read_key
from services.common.relay import Relay, Upstream
from services.common.scopes import KEYS_SCOPE, TENANTS_SCOPE
from services.common.tenants import SystemItems, TenantRecord
from services.gateway.keys import new_key
from services.gateway.registry import KeyRecord
from tests.integration.deployment import Deployment, deployed
from tests.performance.wire import Flow, Outcome, quantile, run

SECONDS = float(os.environ.get("LLMSPELL_BENCH_SECONDS", "8"))
RATE = float(os.environ.get("LLMSPELL_BENCH_RATE", "200"))
"""Calls a second of all together: far from what the machine can do, so that waiting is not it."""
LIST = "/llmspell.v1.StateService/ListState"


async def make(up: Deployment, count: int) -> list[str]:
    """That many tenants with a key each; the keys."""
    clock = SystemClock()
    seal = Seal(read_key(up.data / "secrets" / "context.key"), clock)
    upstream = Upstream("state", up.inner_address("state"))
    items = SystemItems(Relay({"llmspell.v1.StateService": upstream}, seal), principal="gateway")
    keys = []
    for first in range(0, count, 100):
        writes = []
        for number in range(first, min(first + 100, count)):
            tenant = TenantRecord(tenant_id=f"tenant-{number}", display_name="", create_ns=1)
            key_id, key = new_key()
            record = KeyRecord(
                key_id=key_id,
                tenant_id=tenant.tenant_id,
                digest=blake3(key.encode()).hexdigest(),
                roles=("writer",),
                display_name="",
                create_ns=1,
            )
            writes += [
                write(TENANTS_SCOPE, tenant.tenant_id, tenant),
                write(KEYS_SCOPE, key_id, record),
            ]
            keys.append(key)
        await items.call("BatchState", state_pb2.BatchStateRequest(writes=writes))
    await upstream.close()
    return keys


def write(scope: str, key: str, record: msgspec.Struct) -> state_pb2.StateWrite:
    """An item with a record in it."""
    payload = state_pb2.Payload(json=msgspec.json.encode(record).decode())
    return state_pb2.StateWrite(scope=scope, key=key, set=payload)


async def call(up: Deployment, keys: Sequence[str], seconds: float) -> Outcome:
    """Calls with these keys in turn, at the rate of all together."""
    message = state_pb2.ListStateRequest(scope="global").SerializeToString().hex()
    flow = Flow(
        name=f"{len(keys)} tenants",
        address=up.address,
        key=keys[0],
        others=tuple(keys[1:]),
        path=LIST,
        message=message,
        rate=RATE,
        seconds=seconds,
    )
    return await run(flow)


def resident_mib(up: Deployment) -> float:
    """Of the gateway."""
    status = Path(f"/proc/{up.pid('gateway')}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_s(up: Deployment) -> float:
    """Of the gateway and of state, so far."""
    used = 0.0
    for name in ("gateway", "state"):
        fields = Path(f"/proc/{up.pid(name)}/stat").read_text().rsplit(")", 1)[1].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


async def measure(up: Deployment, count: int, active: int) -> None:
    """One tenant, then many, and one again; the table."""
    keys = await make(up, count)
    one, many = keys[:1], keys[1 : active + 1]
    before = resident_mib(up)
    await call(up, many, active / RATE)  # each has called once
    rows = []
    for who in (one, many, one, many):
        used_s = cpu_s(up)
        outcome = await call(up, who, SECONDS)
        used_s = cpu_s(up) - used_s
        good = outcome.good_s
        assert len(good) == outcome.offered, outcome.refused_s
        p99, each_s = quantile(good, 0.99), used_s / len(good)
        rows.append((p99, each_s))
        print(
            f"{outcome.name:>14}: {len(good) / SECONDS:.0f}/s, "
            f"p50 {1e3 * quantile(good, 0.5):.2f} ms, "
            f"p99 {1e3 * p99:.2f} ms, {1e6 * each_s:.0f} us of processor a call",
            flush=True,
        )
    single, crowd = (tuple(map(min, zip(*rows[n::2], strict=True))) for n in (0, 1))
    print(f"\n{count} tenants, {active} of them active, {RATE:.0f} calls a second")
    print(f"p99 against one tenant's: {crowd[0] / single[0]:.2f} (at most 1.5)")
    print(f"processor a call against one tenant's: {crowd[1] / single[1]:.2f}")
    print(f"gateway: {before:.0f} MiB before, {resident_mib(up):.0f} MiB after (under 100)")


def main() -> None:
    """Start a deployment and measure it."""
    count, active = (int(text) for text in (sys.argv[1:] or ("10000", "1000")))
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder)) as up:
        asyncio.run(measure(up, count, active))


if __name__ == "__main__":
    main()
