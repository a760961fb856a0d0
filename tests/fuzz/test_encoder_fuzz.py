"""Hostile Lua values against the encoder in the VM: whatever leaves it, the host can read.

And the canary: nothing but bytes ever reaches Python, whatever is passed to whatever there is.
"""

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.limits import FRAME_BYTES_MAX, FRAME_DEPTH_MAX, FRAME_NODES_MAX
from services.runtime.runs import _parse_call
from services.runtime.worker import vm

MAKERS = """
local function cyclic() local t = {} t.t = {t} return t end
local function deep() local t = {} for _ = 1, 80 do t = {t} end return t end
local function wide() local t = {} for i = 1, 1000 do t[i] = {} end return t end
local function liar()
  return setmetatable({1, 2}, {
    __len = function() return 1 << 40 end, __index = error, __pairs = error, __eq = error,
    __name = 5, __tostring = error, __lt = error, __close = error, __call = error,
  })
end
local function holes() return {1, nil, 3, nil, 5, [2^53] = 1, [-1] = 2, [1.5] = 3} end
local co = coroutine.create(print)
"""
LEAVES = [
    "nil", "true", "false", "0", "-1", "math.maxinteger", "math.mininteger", "1e308", "-0.0",
    "5e-324", "0/0", "1/0", "-1/0", "2^53", "''", "'text'", "'\\xff\\xfe'", "'a\\0b'",
    "('x'):rep(70000)",
    "'\\u{10FFFF}'", "'\\xed\\xa0\\x80'", "print", "co", "cyclic()", "deep()", "wide()", "liar()",
    "holes()", "_G", "State", "string",
]  # fmt: skip
KEYS = [
    "1", "2", "0", "-1", "1.5", "2^53", "'k'", "'\\xff'", "''", "true", "{}", "print", "'1'",
    "'tenant'",
]  # fmt: skip

values = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(lambda parts: "{" + ", ".join(parts) + "}"),
        st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=5).map(
            lambda pairs: "{" + ", ".join(f"[{key}] = {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)
CALLS = [
    "State.set('k', V)", "State.set(V, V)", "State.get(V)", "State.set('tenant:x', 'k', V)",
    "State.list_keys(V, V)", "Session.create(V)", "Event.publish(V, V)", "RAG.search(V, V)",
    "RAG.ingest(V, V)", "Artifact.store('', 'note', 'n', V, V)", "Tool.execute(V, V)",
    "Tool.execute('x', V)", "State.batch(V)", "JSON.stringify(V)", "print(V)", "io.write(V)",
    "Logger.info(V, V)", "Metrics.increment(V, V)", "Debug.dump(V)", "JSON.query(V, V)",
    "string.format('%s %q', V, V)", "error(V)", "Utils.copy(V)", "Hook.register(V, V)",
]  # fmt: skip


@pytest.fixture(scope="module")
def machine():
    """Runs a script in a VM of this process; gives what reached Python."""
    seen = []

    def callback(*arguments):
        seen.append(arguments)
        return 1, msgspec.msgpack.encode({"code": "X", "reason": "Y", "message": "Z"})

    _, prepare, go = vm.build(callback)
    numbers = (1 << 30, FRAME_BYTES_MAX, FRAME_DEPTH_MAX, FRAME_NODES_MAX)

    def run(source):
        seen.clear()
        prepare(source, b"n", b"\x80", False, *numbers, b"", 1, 2, b"")  # noqa: FBT003 - Lua's
        go()
        return list(seen)

    return run


@hypothesis.settings(max_examples=150)
@given(values, st.sampled_from(CALLS))
def test_what_leaves_the_vm_can_be_read(machine, value, call):
    """Every call is well formed, every result is JSON, and only bytes come."""
    body = call.replace("V", f"({value})")
    seen = machine(f"{MAKERS}\npcall(function() {body} end)\nreturn {value}".encode())
    assert {tuple(map(type, arguments)) for arguments in seen} == {(bytes, bytes)}
    for operation, data in seen:
        if operation == b"c":
            assert _parse_call(data, 1).method.startswith("llmspell.v1.")
        if operation in (b"r", b"f"):
            msgspec.json.decode(data)
    assert seen[-1][0] in (b"r", b"f")
