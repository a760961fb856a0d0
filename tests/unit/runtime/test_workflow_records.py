"""What is kept of runs is read as it was, and nobody else can write it."""

import json

from services.runtime.money.model import Spent
from services.runtime.workflows.records import (
    EndRecord,
    RecordSeal,
    RunRecord,
    step_key,
)
from services.runtime.workflows.results import Failure, Status, StepResult

SEAL = RecordSeal(b"k" * 32)
PLACE = ("acme", "workflow:e", "run")
RECORD = RunRecord("e", b"\x00\xff", {"a": [1, 1.0, None, b"\x00"]}, 5, "key", ("state.read",))


def test_a_record_comes_back_as_it_was():
    """Bytes, whole numbers and others, nothing, and maps that look like bytes of ours."""
    sly = {"$bytes": "AA=="}
    odd = {"x": b"", "y": sly, "z": {"$map": sly}, "n": 1.0, "i": 1, "b": True, "none": None}
    step = StepResult(
        "a/b", "b", "tool", Status.FAILED, output=odd, failure=Failure("X", "y", {"z": "1"}),
        spent=Spent(1, 2, 3, 0.5, estimated=True), input=[odd], shared={"k": odd},
    )  # fmt: skip
    end = EndRecord(Status.COMPLETED, 9, output=odd, facts={"n": 1}, left_out=("outputs",))
    for record in (RECORD, step, end):
        text = SEAL.seal(PLACE, record)
        found = SEAL.open(PLACE, text, type(record))
        assert found == record
        assert repr(found).replace("[", "(") == repr(record).replace("[", "(")


def test_a_record_that_somebody_else_wrote_is_none():
    """Whoever may write state gains no permission by it: not by hand, nor by a copy."""
    text = SEAL.seal(PLACE, RECORD)
    told = json.loads(text)
    assert told["record"]["permissions"] == ["state.read"]
    told["record"]["permissions"] = ["*"]
    assert SEAL.open(PLACE, json.dumps(told), RunRecord) is None
    for other in (("evil", *PLACE[1:]), ("acme", "workflow:f", "run"), (*PLACE[:2], "runs")):
        assert SEAL.open(other, text, RunRecord) is None
    assert RecordSeal(b"x" * 32).open(PLACE, text, RunRecord) is None
    for broken in ("", "{}", "[]", "null", '{"seal":"","record":{}}', text[:-1]):
        assert SEAL.open(PLACE, broken, RunRecord) is None


def test_a_long_path_has_a_key_too():
    """A key of state has at most 256 bytes."""
    assert step_key("a/b#1/c") == "step:a/b#1/c"
    one, other = step_key("ä" * 300), step_key("ä" * 299)
    assert one != other
    assert len(one.encode()) < 256
