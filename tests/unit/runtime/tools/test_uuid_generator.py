"""uuid-generator."""

import time
import uuid

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "uuid-generator"


@pytest.mark.parametrize(("version", "number"), [("v1", 1), ("v4", 4), ("v5", 5), ("v7", 7)])
async def test_each_version_is_the_one_asked_for(hand, version, number):
    """Version and variant stand in it, and two differ unless they are of one name."""
    made = [
        uuid.UUID((await hand.result(NAME, version=version, name="example.org"))["uuid"])
        for _ in range(2)
    ]
    assert [(one.version, one.variant) for one in made] == [(number, uuid.RFC_4122)] * 2
    assert (made[0] == made[1]) is (version == "v5")


async def test_times_are_in_those_made_of_time(hand):
    """v1 and v7 hold about now."""
    first = uuid.UUID((await hand.result(NAME, version="v1"))["uuid"])
    seventh = uuid.UUID((await hand.result(NAME, version="v7"))["uuid"])
    assert (first.time - 0x01B21DD213814000) / 1e7 == pytest.approx(time.time(), abs=60)
    assert (seventh.int >> 80) / 1000 == pytest.approx(time.time(), abs=60)
    assert first.node >> 40 & 1, "the node is made up, and says so"


async def test_names_have_the_same_identifier_everywhere(hand):
    """v5 under the namespaces of RFC 9562, deterministic under the fixed ones."""
    made = await hand.result(NAME, version="v5", name="python.org")
    assert made["uuid"] == "886313e1-3b8a-5372-9b90-0c9aee199e5d"
    result = await hand.result(NAME, operation="deterministic", namespace="tool", name="x")
    namespace = uuid.UUID("7cb24e6b-4f6e-5b6c-af8f-4e6b3f5e4b3c")
    assert result == {"id": str(uuid.uuid5(namespace, "x")), "namespace": "tool", "name": "x"}


async def test_identifiers_are_written_as_asked(hand):
    """Forms of a UUID, and identifiers with words around them."""
    forms = {}
    for form in ("simple", "urn", "braced", "hyphenated"):
        forms[form] = (await hand.result(NAME, format=form))["uuid"]
        assert (await hand.result(NAME, operation="validate", uuid=forms[form]))["valid"]
    assert len(forms["simple"]) == 32
    assert forms["urn"].startswith("urn:uuid:")
    short = await hand.result(NAME, operation="component_id", prefix="agent", short=True)
    assert short["id"].startswith("agent_")
    assert len(short["id"]) == len("agent_") + 8
    custom = await hand.result(
        NAME, operation="custom", prefix="run", suffix="end", timestamp=True, short=True
    )
    first, stamp, part, last = custom["id"].split("_")
    assert (first, len(stamp), len(part), last) == ("run", 14, 8, "end")


async def test_what_is_no_uuid_is_told(hand):
    """Validate answers instead of refusing."""
    good = await hand.result(
        NAME, operation="validate", uuid="886313E1-3b8a-5372-9b90-0c9aee199e5d"
    )
    assert good == {
        "valid": True,
        "uuid": "886313e1-3b8a-5372-9b90-0c9aee199e5d",
        "version": 5,
        "variant": "rfc4122",
    }
    for written in ("", "nope", "886313e1-3b8a-5372-9b90-0c9aee199e5", "{886313e13b8a"):
        bad = await hand.result(NAME, operation="validate", uuid=written)
        assert bad["valid"] is False
        assert bad["error"]


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({"version": "v9"}, Reason.FIELD_INVALID, "version"),
        ({"version": "v5"}, Reason.FIELD_REQUIRED, "name"),
        ({"version": "v5", "name": "a", "namespace": "x"}, Reason.FIELD_INVALID, "namespace"),
        ({"operation": "component_id", "prefix": "a b"}, Reason.FIELD_INVALID, "prefix"),
        ({"operation": "validate"}, Reason.FIELD_REQUIRED, "uuid"),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason, field):
    """Unknown versions and namespaces, names that are missing."""
    error = await hand.refusal(NAME, **arguments)
    assert (error.reason, error.metadata["field"]) == (reason, field)
