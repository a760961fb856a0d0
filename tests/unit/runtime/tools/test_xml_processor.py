"""xml-processor."""

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "xml-processor"
SHOP = """<?xml version="1.0"?>
<shop xmlns:x="urn:x"><!-- open -->
  <book id="1"><title>Ink &amp; pen</title><price>9</price></book>
  <book id="2" x:new="yes"><title>Nibs</title></book>
  <empty/>
</shop>"""
BOMB = """<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>"""
OUTSIDE = """<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>"""


async def test_it_becomes_plain_values(hand):
    """Compactly, or with every part by name."""
    assert (
        await hand.result(NAME, input=SHOP)
        == {
            "shop": {
                "book": [
                    {"@id": "1", "title": "Ink & pen", "price": "9"},
                    {"@id": "2", "@x:new": "yes", "title": "Nibs"},
                ],
                "empty": None,
            }
        }
        or (await hand.result(NAME, input=SHOP))["shop"]["@xmlns:x"]
    )
    tree = await hand.result(NAME, input="<a k='v'>x<b/>y</a>", style="tree")
    assert tree == {
        "tag": "a",
        "attributes": {"k": "v"},
        "text": "xy",
        "children": [{"tag": "b", "attributes": {}, "text": "", "children": []}],
    }


@pytest.mark.parametrize(
    ("query", "results"),
    [
        ("book/title/text()", ["Ink & pen", "Nibs"]),
        ("/shop/book/@id", ["1", "2"]),
        ("//book[@id='2']/title/text()", ["Nibs"]),
        (".//book[title='Nibs']/@id", ["2"]),
        ("//absent", []),
        ("@id", []),
    ],
)
async def test_paths_are_followed(hand, query, results):
    """ElementTree's, with attributes and texts at the end."""
    done = await hand.result(NAME, operation="query", xml=SHOP, xpath=query)
    assert done == {"results": results, "count": len(results)}


async def test_namespaces_are_minded(hand):
    """By the prefixes that the caller gives them."""
    source = "<a:r xmlns:a='urn:a'><a:b>1</a:b><b>2</b></a:r>"
    found = await hand.result(
        NAME, operation="query", input=source, query="z:b", namespaces={"z": "urn:a"}
    )
    assert found["results"][0]["text"] == "1"
    assert found["results"][0]["tag"] == "{urn:a}b"


async def test_it_is_validated_and_printed(hand):
    """A fault is told by line and column; comments and names stay."""
    assert await hand.result(NAME, operation="validate", input=SHOP) == {
        "valid": True,
        "root": "shop",
        "element_count": 7,
    }
    bad = await hand.result(NAME, operation="validate", input="<a>\n<b></a>")
    assert (bad["valid"], bad["line"], bad["column"]) == (False, 2, 6)
    assert not (await hand.result(NAME, operation="validate", input=BOMB))["valid"]
    printed = await hand.result(
        NAME, operation="format", input="<a><!--c--><x:b xmlns:x='u'>1</x:b></a>"
    )
    assert printed == '<a>\n  <!--c-->\n  <x:b xmlns:x="u">1</x:b>\n</a>\n'
    flat = await hand.result(NAME, operation="format", input=printed, indent=0)
    assert flat == '<a><!--c--><x:b xmlns:x="u">1</x:b></a>\n'


async def test_a_file_is_read_in_its_encoding(hand):
    """Whatever its declaration says, its bytes count."""
    (hand.folder / "data.xml").write_bytes(
        '<?xml version="1.0" encoding="UTF-16"?><a>ü</a>'.encode("utf-16")
    )
    assert await hand.result("xml_processor", input_file="data.xml") == {"a": "ü"}


async def test_a_result_that_is_too_large_is_named(hand):
    """A limit on values, not a process that is lost."""
    error = await hand.refusal(NAME, input=f"<a>{'<b>x</b>' * 150_000}</a>")
    assert error.reason == Reason.TOOL_RESULT_LIMIT
    assert "100000 values" in error.message


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({}, Reason.FIELD_REQUIRED, "input"),
        ({"input": "<a>"}, Reason.FIELD_INVALID, "input"),
        ({"input": BOMB}, Reason.FIELD_INVALID, "input"),
        ({"input": OUTSIDE}, Reason.FIELD_INVALID, "input"),
        ({"input": "<a>" * 500 + "</a>" * 500}, Reason.LIMIT_EXCEEDED, "input"),
        ({"input": "<a/>", "operation": "query"}, Reason.FIELD_REQUIRED, "query"),
        ({"input": "<a/>", "operation": "query", "query": "a[["}, Reason.FIELD_INVALID, "query"),
        ({"input": "<a/>", "operation": "query", "query": "x:a"}, Reason.FIELD_INVALID, "query"),
        ({"input_file": "../a.xml"}, Reason.PATH_REFUSED, "input_file"),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason, field):
    """What is not well formed, has entities of its own, or nests without end."""
    error = await hand.refusal(NAME, **arguments)
    assert (error.reason, error.metadata["field"]) == (reason, field)
