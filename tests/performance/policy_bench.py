"""What policies and the audit log cost a call, in one process.

`python -m tests.performance.policy_bench` prints microseconds, and shares of what it takes to seal
and open a context, which every call behind the gateway pays. The specification's figures: scope
resolution under 0.1 ms, a row filter under 0.5 ms.
"""

from __future__ import annotations

import asyncio
import timeit
from dataclasses import replace

from llmspell.v1 import state_pb2
from llmspell.v1.types_pb2 import Filter

from services.common.access import METHODS, decide
from services.common.clock import SystemClock
from services.common.context import CallContext, Seal, set_context
from services.common.door import Arrival, End
from services.common.policy import Rules
from services.common.scope_guard import guarded
from services.gateway.audit import Audit
from services.gateway.policies import Applying, Policies, PolicyRecord, together
from services.vector.servicers.policy import restricted

ROUNDS = 5
SET = METHODS["/llmspell.v1.StateService/SetState"]
BATCH = METHODS["/llmspell.v1.StateService/BatchState"]
SEARCH = METHODS["/llmspell.v1.VectorService/Search"]
CALLER = CallContext(
    tenant="acme", principal="k1", permissions=("state.read", "state.write"), roles=("writer",)
)
RULES = tuple(
    Rules(
        f"p{number}",
        allow=("vector.*", "state.*", "session.*"),
        deny=("StateService/Clear*", "StateService/Purge*"),
        scopes=(*(f"user:u{each}" for each in range(20)), "session:*"),
        denied_scopes=("session:secret",),
    )
    for number in range(3)
)
UNDER = replace(CALLER, policy=RULES)


def took_us(call, number=2000):
    """Microseconds of one call, of the best round."""
    return min(timeit.repeat(call, number=number, repeat=ROUNDS)) / number * 1e6


def in_loop_us(make, number=2000):
    """Likewise, of a coroutine."""

    async def run():
        loop = asyncio.get_running_loop()
        best = float("inf")
        for _ in range(ROUNDS):
            begin = loop.time()
            for _ in range(number):
                await make()
            best = min(best, loop.time() - begin)
        return best / number * 1e6

    return asyncio.run(run())


def filters():
    """A filter of a key, and one of each of three policies."""
    found = []
    for number in range(4):
        each = Filter()
        each.condition.field = f"f{number}"
        each.condition.equals.string_value = "en"
        found.append(each.SerializeToString())
    return tuple(found)


def gate():
    """A gateway's gate, with a thousand policies beside those that apply."""
    policies = Policies(None, SystemClock())
    policies._stamp = 1
    for number in range(1000):
        record = PolicyRecord(f"t{number}", "*", 1, 0, "operator", allow=("*",))
        policies._kept[record.place] = record
    policies._applying["acme", ("writer",), "k1"] = Applying(RULES, filters()[1:])
    return lambda: policies.gate(Arrival(SET.path, SET, (), "r", context=CALLER))


def audit():
    """Noting a write; every one names another key."""

    async def find(tenant):
        return tenant

    log = Audit(None, SystemClock(), tenant=find, reads=False)
    numbers = iter(range(10**9))

    def note():
        request = state_pb2.SetStateRequest(scope="user:u1", key=f"k{next(numbers) % 1000}")
        arrival = Arrival(SET.path, SET, (), "r", context=CALLER, peer="ipv4:127.0.0.1:50000")
        arrival.message = request.SerializeToString()
        log.observe(arrival, End(None, 0.001))

    return note


def main():
    """Measure and print."""
    seal = Seal(bytes(32), SystemClock())
    base = took_us(lambda: seal.open(seal.seal(CALLER, lifetime_s=60)))
    one = state_pb2.SetStateRequest(scope="user:u19", key="k")
    writes = [state_pb2.StateWrite(scope=f"user:u{n % 20}", key="k") for n in range(100)]
    many = state_pb2.BatchStateRequest(writes=writes)
    row = filters()
    set_context(replace(CALLER, row_filter=together(row)))
    figures = {
        "seal and open a context": base,
        "the same, under three policies": took_us(
            lambda: seal.open(seal.seal(UNDER, lifetime_s=60))
        ),
        "gate of the gateway, three policies": in_loop_us(gate()),
        "decide at an inner door, no policy": took_us(lambda: decide(CALLER, SET)),
        "decide at an inner door, three policies": took_us(lambda: decide(UNDER, SET)),
        "scopes of a message, no policy": took_us(lambda: guarded(CALLER, SET, one)),
        "scopes of a message, three policies": took_us(lambda: guarded(UNDER, SET, one)),
        "scopes of a batch of 100, three policies": took_us(
            lambda: guarded(UNDER, BATCH, many), number=200
        ),
        "and-ing four row filters": took_us(lambda: together(row)),
        "a row filter put before a search": took_us(lambda: restricted(None)),
        "noting a write for the audit log": took_us(audit(), number=1000),
    }
    for name, us in figures.items():
        print(f"{name:45} {us:8.1f} us {us / base:7.2f} x")


if __name__ == "__main__":
    main()
