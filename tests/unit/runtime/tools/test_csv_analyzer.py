"""csv-analyzer."""

import base64
import io
import statistics
import zipfile

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "csv-analyzer"
PEOPLE = """name,age,height,member,joined,note
Ann,31,1.70,true,2020-01-05,
Bob,NA,1.82,false,2021-11-30,"says ""hi"", twice"
Cid,45,1.60,true,2019-06-01,007
Ann,27,1.75,true,2022-02-02,x
"""


async def test_columns_are_analyzed(hand):
    """Types, missing values and statistics, computed truly."""
    result = await hand.result(NAME, input=PEOPLE)
    assert (result["row_count"], result["column_count"], result["delimiter"]) == (4, 6, ",")
    assert (result["has_headers"], result["parse_errors"]) == (True, [])
    columns = {column["name"]: column for column in result["columns"]}
    assert {name: column["data_type"] for name, column in columns.items()} == {
        "name": "string",
        "age": "integer",
        "height": "float",
        "member": "boolean",
        "joined": "date",
        "note": "string",
    }
    age = columns["age"]
    ages = [31, 45, 27]
    assert (age["null_count"], age["unique_count"]) == (1, 3)
    assert (age["min_value"], age["max_value"], age["median"]) == (27, 45, 31)
    assert age["mean"] == pytest.approx(statistics.fmean(ages))
    assert age["std_dev"] == pytest.approx(statistics.stdev(ages))
    assert (columns["name"]["unique_count"], columns["name"]["sample_values"]) == (
        3,
        ["Ann", "Bob", "Cid"],
    )


async def test_numbers_may_be_as_large_as_they_are(hand):
    """What cannot be computed is null; what is no finite number is text."""
    table = "big,whole,endless\n1e308,1,1e999\n1.7e308,123456789012345678901234567890,2\n"
    result = await hand.result(NAME, input=table)
    big, whole, endless = result["columns"]
    assert (big["data_type"], big["max_value"], big["std_dev"]) == ("float", 1.7e308, None)
    assert (whole["data_type"], whole["max_value"]) == ("integer", 123456789012345678901234567890.0)
    assert endless["data_type"] == "string"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "stadt;straße\nKöln;Überweg in der Nähe vom schönen Fluß\nMünchen;Grüner Weg\n"),
        ("utf-8-sig", "stadt;straße\nKöln;Weg\n"),
        ("utf-16", "stadt;straße\nKöln;Weg\n"),
    ],
)
async def test_delimiter_and_encoding_are_found(hand, encoding, text):
    """Of a file as people's programs write them."""
    (hand.folder / "data.csv").write_bytes(text.encode(encoding))
    result = await hand.result("csv_analyzer", path="data.csv")
    assert result["delimiter"] == ";"
    assert [column["name"] for column in result["columns"]] == ["stadt", "straße"]
    assert "Köln" in result["columns"][0]["sample_values"]


@pytest.mark.parametrize(
    ("text", "delimiter", "headers"),
    [("a\tb\n1\t2\n", "\t", True), ("1|2\n3|4\n", "|", False), ("x\ny\n", ",", True)],
)
async def test_header_and_delimiter_are_guessed(hand, text, delimiter, headers):
    """A first row of numbers is none of names."""
    result = await hand.result(NAME, input=text)
    assert (result["delimiter"], result["has_headers"]) == (delimiter, headers)


async def test_it_is_converted(hand):
    """To values, JSON Lines and TSV; what has no library says so."""
    rows = await hand.result(NAME, operation="convert", input=PEOPLE, options={"format": "json"})
    assert rows[0] == {
        "name": "Ann",
        "age": 31,
        "height": 1.7,
        "member": True,
        "joined": "2020-01-05",
        "note": None,
    }
    assert (rows[1]["age"], rows[2]["note"]) == (None, "007")
    lines = await hand.result(
        NAME, operation="convert", input="a,b\n1,x\n", options={"format": "jsonl"}
    )
    assert lines == '{"a": 1, "b": "x"}\n'
    tsv = await hand.result(
        NAME, operation="convert", input="a,b\n1,x\n", options={"format": "tsv"}
    )
    assert tsv == "a\tb\n1\tx\n"
    refused = await hand.refusal(
        NAME, operation="convert", input="a\n1", options={"format": "parquet"}
    )
    assert refused.reason == Reason.NOT_IMPLEMENTED
    assert "Parquet" in refused.message


async def test_it_becomes_an_excel_file(hand):
    """Numbers are numbers, what looks like a formula is text; in base64, or in the folder."""
    asked = {"operation": "convert", "input": "name,n\n=1+1,2.5\n", "options": {"format": "excel"}}
    result = await hand.result(NAME, **asked)
    data = base64.b64decode(result["data"])
    assert (result["format"], result["encoding"]) == ("excel", "base64")
    assert result["size_bytes"] == len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        sheet = file.read("xl/worksheets/sheet1.xml").decode()
        strings = file.read("xl/sharedStrings.xml").decode()
    assert "<v>2.5</v>" in sheet
    assert "<f>" not in sheet
    assert "<t>=1+1</t>" in strings
    kept = await hand.result(NAME, **asked, output_file="out.xlsx")
    assert kept == {"format": "excel", "size_bytes": len(data), "output_file": "out.xlsx"}
    assert (hand.folder / "out.xlsx").read_bytes() == data


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("age > 30", ["Ann", "Cid"]),
        ("age >= 27 and name = Ann", ["Ann", "Ann"]),
        ("name != 'Ann'", ["Bob", "Cid"]),
        ("note contains HI", ["Bob"]),
        ("name starts_with c", ["Cid"]),
        ("age is null", ["Bob"]),
        ('"note" is not null and height < 1.7', ["Cid"]),
        ("[name] matches ^[AB]", ["Ann", "Bob", "Ann"]),
        ("joined > 2020-06-01", ["Bob", "Ann"]),
    ],
)
async def test_rows_are_filtered(hand, condition, names):
    """Numbers as numbers, other things as text."""
    done = await hand.outcome(NAME, operation="filter", input=PEOPLE, options={"filter": condition})
    assert [line.split(",")[0] for line in done.result.splitlines()[1:]] == names
    assert (done.metadata["total_rows"], done.metadata["row_count"]) == (4, len(names))


async def test_rows_are_sampled(hand):
    """So many, each once, in their order; the same again of a seed."""
    table = "n\n" + "".join(f"{n}\n" for n in range(500))
    taken = {"operation": "sample", "input": table}
    first = await hand.result(NAME, **taken, options={"size": 20, "seed": 7})
    numbers = [int(line) for line in first.splitlines()[1:]]
    assert len(set(numbers)) == 20
    assert numbers == sorted(numbers)
    assert first == await hand.result(NAME, **taken, options={"size": 20, "seed": 7})
    head = await hand.result(NAME, **taken, options={"size": 2, "method": "first"})
    assert head == "n\n0\n1\n"


async def test_columns_are_changed(hand):
    """Computed, filled in, renamed, dropped; the result may become a file."""
    options = {
        "add_columns": {"total": "=price * n", "label": "{item}!", "kind": "new"},
        "rename_columns": {"n": "count"},
        "drop_columns": ["x"],
    }
    table = "item,price,n,x\npen,2.5,2,\nink,?,1,\n"
    result = await hand.result(
        NAME, operation="transform", input=table, options=options, output_file="out.csv"
    )
    assert result == "item,price,count,total,label,kind\npen,2.5,2,5,pen!,new\nink,?,1,,ink!,new\n"
    assert (hand.folder / "out.csv").read_text() == result


async def test_rows_are_validated(hand):
    """By rules of either form; rows of another width are told."""
    table = "name,age\nAnn,31\n,x\nBob,200,1\n"
    rules = {
        "name": [{"type": "required"}],
        "age": {"type": "integer", "required": True, "max": 150},
        "absent": {"required": True},
    }
    result = await hand.result(NAME, operation="validate", input=table, options={"rules": rules})
    assert (result["valid"], result["total_rows"], result["error_count"]) == (False, 3, 5)
    told = {(error["row"], error["column"]) for error in result["errors"]}
    assert told == {(0, "absent"), (3, "name"), (3, "age"), (4, "age"), (4, "")}
    good = await hand.result(NAME, operation="validate", input="a,b\n1,2\n")
    assert good == {"valid": True, "errors": [], "total_rows": 1, "error_count": 0}


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({}, Reason.FIELD_REQUIRED, "input"),
        ({"input": ""}, Reason.FIELD_INVALID, "input"),
        ({"input": "a", "options": {"delimiter": "ab"}}, Reason.FIELD_INVALID, "options.delimiter"),
        ({"input": "a\n1", "operation": "filter"}, Reason.FIELD_REQUIRED, "options.filter"),
        (
            {"input": "a\n1", "operation": "filter", "options": {"filter": "b > 1"}},
            Reason.FIELD_INVALID,
            "options.filter",
        ),
        (
            {"input": "a\n1", "operation": "filter", "options": {"filter": "a ~ 1"}},
            Reason.FIELD_INVALID,
            "options.filter",
        ),
        (
            {"input": "a\n1", "operation": "transform", "options": {"add_columns": {"b": "=a +"}}},
            Reason.FIELD_INVALID,
            "options.add_columns",
        ),
        (
            {"input": "a\n1", "operation": "transform", "options": {"drop_columns": ["b"]}},
            Reason.FIELD_INVALID,
            "options",
        ),
        ({"input": "a," * 2000}, Reason.LIMIT_EXCEEDED, "input"),
        ({"input": "a\n" + "x" * 2_000_000}, Reason.FIELD_INVALID, "input"),
        ({"input_file": "absent.csv"}, Reason.FILE_NOT_FOUND, "input_file"),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason, field):
    """The field is named."""
    error = await hand.refusal(NAME, **arguments)
    assert (error.reason, error.metadata["field"]) == (reason, field)
