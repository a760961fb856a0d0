"""Batches with additions and marked values, by the client, by scripts and on the command line."""

from decimal import Decimal

import pytest
from llmspell import CheckItem, Client, Conflict, FailedPrecondition, IncrementItem, SetItem

SCRIPT = """
local done = State.batch{
  {check = "n", present = true}, {increment = "n", by = "0.20"}, {increment = "n"},
  {set = "pin", value = 4711, sensitive = true}, {delete = "old"},
}
assert(done.deleted_count == 1 and done.sums[1] == "0.30" and done.revision > 0)
local ok, failure = pcall(State.batch, {
  {set = "half", value = 1}, {increment = "word"},
})
assert(not ok and failure.reason == "VALUE_NOT_NUMBER" and State.get("half") == nil)
ok, failure = pcall(State.batch, {{check = "n", absent = true}, {increment = "n"}})
assert(not ok and failure.reason == "REVISION_MISMATCH")
return State.get("n")
"""


def test_batches_add_exactly_and_wholly(deployment):
    """The client's and a script's batches add without loss, all or nothing, in one tenant only."""
    tenants = deployment.tenant("batch-a"), deployment.tenant("batch-b")
    one, two = (Client(deployment.address, deployment.keys[each]) for each in tenants)
    with one, two:
        first = one.batch([IncrementItem("n", Decimal("0.10")), SetItem("old", 1)])
        assert first.sums == (Decimal("0.10"),)
        added = one.batch(
            [IncrementItem("m", 2), IncrementItem("m", 0.5, "user:u"), IncrementItem("m")]
        )
        assert (added.sums, added.revision > first.revision) == ((2, 0.5, 3), True)
        one.set_state("word", "x")
        with pytest.raises(FailedPrecondition):
            one.batch([IncrementItem("m"), IncrementItem("word")])
        with pytest.raises(Conflict):
            one.batch([CheckItem("m", absent=True), IncrementItem("m")])
        assert one.get_state("m").value == 3
        assert list(one.run(SCRIPT))[-1].value == pytest.approx(1.3)
        assert list(two.list_state()) == []
        assert two.batch([IncrementItem("n", Decimal(5))]).sums == (Decimal(5),)


def test_errors_tell_scripts_no_credential(deployment):
    """What state says of a key, and what the worker's host does, is clean in a script's error."""
    secret = "sk-abcdefghijklmnopqrstuvwxyz012345"
    source = f"""
      State.set("{secret}", "word")
      local _, one = pcall(State.increment, "{secret}")
      local _, two = pcall(State.batch, {{{{check = "{secret}", absent = true}}}})
      local said = {{}}
      for i, each in ipairs{{one, two}} do
        said[i] = {{each.reason, each.message, each.metadata.key}}
      end
      return said
    """
    for name in ("batch-a", "batch-b"):
        with Client(deployment.address, deployment.keys[deployment.tenant(name)]) as client:
            said = list(client.run(source))[-1].value
            client.delete_state(secret)
        assert [each[0] for each in said] == ["VALUE_NOT_NUMBER", "REVISION_MISMATCH"]
        assert secret not in repr(said)
        assert all("[REDACTED]" in each[1] for each in said)
        assert [each[2] for each in said] == ["[REDACTED]"] * 2


def test_marked_values_on_the_command_line(deployment):
    """`--sensitive` marks; `get` tells the value, `list` only that there is one."""
    tenant, other = deployment.tenant("marked"), deployment.tenant("unmarked")
    for whose, mark in ((tenant, ["--sensitive"]), (other, [])):
        done = deployment.cli("state", "set", "door", "4711", *mark, tenant=whose)
        assert done.returncode == 0, done.stderr
    assert deployment.cli("state", "get", "door", tenant=tenant).stdout.strip() == "4711"
    listed = deployment.cli("state", "list", tenant=tenant).stdout
    assert "(sensitive)" in listed
    assert "4711" not in listed
    assert "4711" in deployment.cli("state", "list", tenant=other).stdout
    for whose, marked in ((tenant, True), (other, False)):
        (item,) = deployment.cli_json("state", "list", tenant=whose)
        assert (item["value"], item["sensitive"]) == (4711, marked)
        assert deployment.cli_json("state", "get", "door", tenant=whose)["sensitive"] is marked
