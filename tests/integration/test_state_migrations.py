"""Migrations through the four processes, as the guide tells them."""

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from llmspell import Client, NotFound, SchemaField

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "migrations.md"


def blocks(language):
    """The page's blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def test_the_guide_runs_from_top_to_bottom(deployment, tmp_path):
    """Python, then the commands, then Lua: each does what the page says, one after the other."""
    tenant = deployment.tenant("migrators")
    for source in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", source],
            env=deployment.environment(tenant),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "completed 3 backup" in done.stdout
    (tmp_path / "orders.json").write_text(blocks("json")[0])
    for line in blocks("sh")[0].splitlines()[:-2]:
        arguments = line.replace("orders.json", str(tmp_path / "orders.json")).split()[1:]
        done = deployment.cli(*arguments, tenant=tenant)
        assert done.returncode == 0, done.stderr
    assert deployment.cli_json("migrate", "status", tenant=tenant)[0]["dry_run"]
    (tmp_path / "a.lua").write_text(blocks("lua")[0])
    done = deployment.cli("run", str(tmp_path / "a.lua"), tenant=tenant)
    assert done.returncode == 0, done.stderr
    assert "1.1.0\t1.0.0 1.1.0 1.2.0" in done.stdout
    assert "completed\t3" in done.stdout
    done = deployment.cli("migrate", "run", "orders", tenant=tenant)
    assert "orders is at 1.2.0 already." in done.stdout
    with Client(deployment.address, deployment.keys[tenant]) as client:
        assert client.get_state("order-2", scope="custom:shop").value["total"] == "20"


def test_migrations_are_apart(deployment):
    """Another tenant sees neither schema nor migration, and its items stay; a watch is told."""
    mine, theirs = deployment.tenant("migrating"), deployment.tenant("staying")
    with (
        Client(deployment.address, deployment.keys[mine]) as client,
        Client(deployment.address, deployment.keys[theirs]) as other,
    ):
        for each in (client, other):
            each.set_state("k", {"a": 1}, scope="custom:same")
        client.put_schema("s", "1.0.0", scope_pattern="custom:same")
        steps = [{"rename": {"source": "a", "target": "b"}}]
        client.put_schema("s", "2.0.0", fields=[SchemaField("b", "integer")], transforms=steps)
        with closing(client.watch_state("k", scope="custom:same", progress=True)) as watch:
            next(watch)
            begun = client.start_migration("s")
            told = next(told for told in watch if told.changes)
        assert [(each.kind, each.scope) for each in told.changes] == [("migrate", "custom:same")]
        assert client.get_migration(begun.migration_id, wait_s=20).status == "completed"
        assert client.get_state("k", scope="custom:same").value == {"b": 1}
        assert other.get_state("k", scope="custom:same").value == {"a": 1}
        assert list(other.list_schemas()) == list(other.list_migrations()) == []
        with pytest.raises(NotFound) as info:
            other.get_migration(begun.migration_id)
        assert info.value.reason == "MIGRATION_NOT_FOUND"


def test_a_failed_migration_says_where(deployment):
    """Command and script tell key, field and rule of the item that stands in the way."""
    tenant = deployment.tenant("failing")
    with Client(deployment.address, deployment.keys[tenant]) as client:
        client.set_state("bad", {"a": "x"}, scope="custom:f")
        client.put_schema("f", "1.0.0", scope_pattern="custom:f")
        steps = [{"convert": {"field": "a", "type": "integer"}}]
        client.put_schema("f", "1.0.1", transforms=steps)
    done = deployment.cli("migrate", "run", "f", tenant=tenant)
    assert done.returncode == 8
    assert "'a' of item 'bad' in custom:f has a string" in done.stderr
    script = 'local d = State.migrate("1.0.1") print(d.success, d.status, d.errors[1].key)'
    done = deployment.cli("exec", script, tenant=tenant)
    assert "false\tfailed\tbad" in done.stdout, done.stderr
