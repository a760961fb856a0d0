"""The database-connector tool on real SQLite files."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
import pytest_asyncio

from services.common.errors import Reason, ServiceError
from services.runtime.tools.folders import Folders
from tests.unit.runtime.tooling import caller, open_toolbox
from tests.unit.runtime.tools import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLES = """
DROP VIEW IF EXISTS grown;
DROP TABLE IF EXISTS people;
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age REAL, photo BLOB);
CREATE INDEX by_name ON people (name);
CREATE VIEW grown AS SELECT name FROM people WHERE age >= 18;
INSERT INTO people (name, age) VALUES ('Ann', 30.5), ('Bob', 7);
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The tenants' folders."""
    return tmp_path_factory.mktemp("tenants")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox(place):
    """The real tools."""
    async with open_toolbox(place) as toolbox:
        yield toolbox


def folder_of(place, tenant="acme"):
    """Where a tenant's files are."""
    return Path(Folders(place).path(tenant))


def put(place, name, data):
    """A file as another tool would have left it."""
    path = folder_of(place) / name
    path.write_bytes(data)
    path.chmod(0o644)
    return path


async def ask(toolbox, database, query, parameters=(), tenant="acme", **more):
    arguments = {"database": database, "query": query, "parameters": parameters, **more}
    if not isinstance(parameters, dict):
        arguments["parameters"] = list(parameters)
    return (await serving.execute(toolbox, "database-connector", arguments, tenant)).result


async def refusal(toolbox, *args, **more):
    with pytest.raises(ServiceError) as caught:
        await ask(toolbox, *args, **more)
    return caught.value


async def made(toolbox, database, **more):
    return await ask(toolbox, database, TABLES, operation="create", **more)


async def test_rows_are_written_and_read(toolbox, place):
    """By each kind of statement, with values bound by place and by name; SQLite itself agrees."""
    assert (await made(toolbox, "a.db"))["tables"] == [{"name": "grown"}, {"name": "people"}]
    hostile = "x'); DROP TABLE people; --"
    done = await ask(toolbox, "a.db", "INSERT INTO people (name, age) VALUES (?, ?)", [hostile, 1])
    assert (done["rows_affected"], done["query_type"]) == (1, "insert")
    found = await ask(
        toolbox, "a.db", "SELECT name, age FROM people WHERE age > :least ORDER BY id", {"least": 2}
    )
    assert found["results"] == [{"name": "Ann", "age": 30.5}, {"name": "Bob", "age": 7.0}]
    assert (found["columns"], found["row_count"]) == (["name", "age"], 2)
    changed = await ask(toolbox, "a.db", "UPDATE people SET age = age + 1 WHERE age < 10")
    assert changed["rows_affected"] == 2
    assert (await ask(toolbox, "a.db", "DELETE FROM people WHERE name = 'Bob'"))["status"] == (
        "executed"
    )
    many = await ask(
        toolbox, "a.db", "WITH x AS (SELECT * FROM people) SELECT count(*) AS n FROM x"
    )
    assert many["results"] == [{"n": 2}]
    with sqlite3.connect(folder_of(place) / "a.db") as plain:
        assert plain.execute("SELECT name FROM people ORDER BY id").fetchall() == [
            ("Ann",), (hostile,),
        ]  # fmt: skip
    plain.close()
    assert not list(folder_of(place).glob(".llmspell/*")), "a draft stayed"


async def test_a_schema_is_told(toolbox):
    """Tables and views with their columns."""
    await made(toolbox, "schema.db")
    arguments = {"database": "schema.db", "operation": "schema"}
    done = (await toolbox.execute("database_connector", arguments, caller())).result
    grown, people = done["tables"]
    assert (grown["type"], people["type"]) == ("view", "table")
    assert people["columns"][1] == {
        "name": "name", "type": "TEXT", "nullable": False, "primary_key": False,
    }  # fmt: skip


async def test_a_tenants_database_is_its_own(toolbox):
    """Another tenant finds nothing under the same name."""
    await made(toolbox, "mine.db")
    error = await refusal(toolbox, "mine.db", "SELECT 1", tenant="globex")
    assert error.reason == Reason.FILE_NOT_FOUND


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE people", "CREATE TABLE x (a)", "ALTER TABLE people ADD x", "PRAGMA mmap_size",
        "ATTACH 'other.db' AS o", "DETACH o", "VACUUM", "VACUUM INTO 'copy.db'", "BEGIN", "COMMIT",
        "SELECT 1; DROP TABLE people", "SELECT 1; SELECT 2", "", "  ", "EXPLAIN SELECT 1",
        "/* SELECT */ DROP TABLE people", "-- SELECT\nDROP TABLE people",
        "WITH x AS (SELECT 1) DROP", "SELECT name INTO x FROM people",
    ],
)  # fmt: skip
async def test_a_query_defines_nothing(toolbox, query):
    """No DDL, no PRAGMA, no other file, one statement; the tables stay."""
    await made(toolbox, "ddl.db")
    error = await refusal(toolbox, "ddl.db", query)
    assert (error.reason, error.metadata["field"]) == (Reason.FIELD_INVALID, "query")
    assert (await ask(toolbox, "ddl.db", "SELECT * FROM people"))["row_count"] == 2


@pytest.mark.parametrize(
    "query",
    [
        "SELECT load_extension('x')", "SELECT fts3_tokenizer('x')", "SELECT writefile('x', 'y')",
        "SELECT * FROM pragma_database_list", "INSERT INTO sqlite_master VALUES (1,2,3,4,5)",
        "DELETE FROM sqlite_schema", "SELECT * FROM nothing", "SELECT", "SELECT ?",
        "INSERT INTO people (name) VALUES (NULL)", "SELECT zeroblob(1000000000)",
        "SELECT abs(-9223372036854775808)",
    ],
)  # fmt: skip
async def test_what_sqlite_refuses_is_told(toolbox, query):
    """Functions that reach outside, its own tables, constraints: TOOL_FAILED with its words."""
    await made(toolbox, "refused.db")
    error = await refusal(toolbox, "refused.db", query)
    assert error.reason in (Reason.TOOL_FAILED, Reason.TOOL_MEMORY_LIMIT)


@pytest.mark.parametrize(
    "script",
    [
        "ATTACH 'x' AS y", "PRAGMA writable_schema = ON", "CREATE TABLE a (b); ATTACH 'x' AS y",
        "CREATE TABLE a (b); COMMIT; ATTACH ':memory:' AS y", "nonsense",
        "CREATE VIRTUAL TABLE v USING fts5(a)", "CREATE TABLE a (b); SELECT load_extension('x')",
        "VACUUM INTO 'copy.db'",
    ],
)  # fmt: skip
async def test_definitions_stay_in_their_file(toolbox, place, script):
    """What is not allowed fails, and nothing of the script stays."""
    error = await refusal(toolbox, "never.db", script, operation="create")
    assert error.reason == Reason.TOOL_FAILED
    assert not (folder_of(place) / "never.db").exists()
    assert not (folder_of(place) / "copy.db").exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../x.db", Reason.PATH_REFUSED), ("/tmp/x.db", Reason.PATH_REFUSED),
        ("file:x.db?mode=rw", Reason.FILE_NOT_FOUND), (":memory:", Reason.FILE_NOT_FOUND),
        ("gone.db", Reason.FILE_NOT_FOUND), ("link.db", Reason.PATH_REFUSED),
        ("text.db", Reason.TOOL_FAILED), ("broken.db", Reason.TOOL_FAILED),
    ],
)  # fmt: skip
async def test_only_databases_in_the_folder_are_opened(toolbox, place, path, reason):
    """No path outside, no link, no other file, no URI; a damaged file is told."""
    put(place, "text.db", b"no database")
    put(place, "broken.db", b"SQLite format 3\0" + b"\xff" * 5000)
    link = folder_of(place) / "link.db"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    assert (await refusal(toolbox, path, "SELECT name FROM sqlite_schema")).reason == reason


async def test_rows_and_time_are_limited(toolbox):
    """1000 rows, and a statement that would go on for ever ends."""
    await made(toolbox, "limits.db")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
    done = await ask(toolbox, "limits.db", f"{endless} i FROM n")
    assert (done["row_count"], done["truncated"]) == (1000, True)
    error = await refusal(toolbox, "limits.db", f"{endless} count(*) FROM n", timeout=0.5)
    assert (error.reason, "too long" in error.message) == (Reason.TOOL_FAILED, True)


async def test_values_come_as_they_are(toolbox):
    """Bytes, NULL, large numbers, infinity, two columns of one name."""
    await made(toolbox, "values.db")
    done = await ask(
        toolbox, "values.db",
        "SELECT x'00ff' AS a, NULL AS a, 9223372036854775807 AS c, 1e999 AS d, 'é' AS e",
    )  # fmt: skip
    assert done["results"] == [
        {"a": b"\x00\xff", "a_2": None, "c": 9223372036854775807, "d": "inf", "e": "é"}
    ]


async def test_writers_at_once_lose_nothing(toolbox):
    """Ten additions at the same time are ten rows."""
    await ask(toolbox, "many.db", "CREATE TABLE t (n)", operation="create")
    await asyncio.gather(
        *(ask(toolbox, "many.db", "INSERT INTO t VALUES (?)", [n]) for n in range(10))
    )
    found = await ask(toolbox, "many.db", "SELECT n FROM t ORDER BY n")
    assert [row["n"] for row in found["results"]] == list(range(10))


async def test_a_file_with_a_write_ahead_log_is_read_only_where_nothing_is_in_it(toolbox, place):
    """A database that another program left in that mode is read; one with a full log is refused."""
    with sqlite3.connect(folder_of(place) / "wal.db") as plain:
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute("CREATE TABLE IF NOT EXISTS t (n)")
    plain.close()
    (folder_of(place) / "wal.db").chmod(0o644)
    assert (await ask(toolbox, "wal.db", "SELECT count(*) AS n FROM t"))["results"] == [{"n": 0}]
    log = put(place, "wal.db-wal", b"something")
    assert (await refusal(toolbox, "wal.db", "SELECT 1")).reason == Reason.TOOL_FAILED
    log.unlink()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"engine": "mysql"}, Reason.NOT_IMPLEMENTED),
        ({"engine": "postgresql"}, Reason.TOOL_FAILED),
        ({"query_type": "delete"}, Reason.FIELD_INVALID),
        ({"parameters": [{"a": 1}]}, Reason.FIELD_INVALID),
        ({"parameters": [1]}, Reason.TOOL_FAILED),
        ({"operation": "drop"}, Reason.FIELD_INVALID),
        ({"operation": "create", "parameters": [1]}, Reason.FIELD_INVALID),
        ({"database": ""}, Reason.FIELD_INVALID),
    ],
)
async def test_wrong_arguments_are_refused(toolbox, arguments, reason):
    """Other engines by name, values that do not fit, operations that are none."""
    await made(toolbox, "wrong.db")
    given = {"database": "wrong.db", "query": "SELECT 1", **arguments}
    with pytest.raises(ServiceError) as caught:
        await toolbox.execute("database-connector", given, caller())
    assert caught.value.reason == reason
    with pytest.raises(ServiceError) as caught:
        await toolbox.execute("database-connector", {"database": "wrong.db"}, caller())
    assert caught.value.metadata["field"] == "query"
