"""The main job at the size of a small company's handbook: 200 real pages, two tenants, the CLI.

The pages are the documentation of Python's own library, which every machine that runs this has.
"""

from __future__ import annotations

import importlib
import json
import pydoc
import sys
import warnings

import pytest

PAGES = 200
PAGE_CHARACTERS = 1000
QUESTIONS = {
    "compress data with gzip": "gzip",
    "read and write CSV files": "csv",
    "calendar of a month": "calendar",
}
COLLECTION = ("--collection", "pages")
SCRIPT = """
local found = RAG.search("read and write CSV files", {k = 3, collection = "pages"})
print(found.total .. " passages")
State.set("pages-asked", found.total)
return State.get("pages-asked")
"""


def write_pages(folder) -> int:
    """Documentation of modules as text files; modules that do not import here are left out."""
    written = 0
    for name in sorted(sys.stdlib_module_names - {"antigravity", "this", "idlelib", "turtledemo"}):
        if name.startswith("_") or written == PAGES:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = importlib.import_module(name)
                text = pydoc.render_doc(module, renderer=pydoc.plaintext)
        except Exception:  # noqa: BLE001  (some need a terminal, a display or another system)
            continue
        parts = [text[at : at + PAGE_CHARACTERS] for at in range(0, len(text), PAGE_CHARACTERS)]
        for number, part in enumerate(parts[:2]):
            if part.strip() and written < PAGES:
                (folder / f"{name}-{number}.txt").write_text(part)
                written += 1
    return written


@pytest.fixture(scope="module")
def pages(deployment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    assert write_pages(folder) == PAGES
    report = deployment.cli_json("rag", "ingest", str(folder), *COLLECTION, tenant="acme")
    assert report["document_count"] == PAGES
    assert report["skipped"] == []
    return report


@pytest.mark.timeout(400)  # whichever is the first has all pages embedded
@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_right_page_is_found(deployment, pages, question):
    """Of 200 pages, the one about the question is among the first three found."""
    found = deployment.cli_json("rag", "search", question, "-k", "3", *COLLECTION, tenant="acme")
    sources = [passage["document_id"] for passage in found["passages"]]
    assert any(source.startswith(QUESTIONS[question]) for source in sources), sources


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_a_script_uses_the_pages(deployment, pages, tmp_path):
    """A script file asks, keeps what it found, prints as it goes and returns a value."""
    file = tmp_path / "ask.lua"
    file.write_text(SCRIPT)
    done = deployment.cli("run", str(file), tenant="acme")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "3 passages"
    assert deployment.cli_json("run", str(file), tenant="acme")["result"] == 3


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_the_other_tenant_finds_none_of_it(deployment, pages, tmp_path):
    """As globex, every way to search or count finds nothing of acme's 200 pages."""
    search = deployment.cli("rag", "search", "CSV", *COLLECTION, "--json", tenant="globex")
    assert search.returncode != 0 or json.loads(search.stdout)["passages"] == []
    stats = deployment.cli_json("rag", "stats", tenant="globex")
    assert "pages" not in json.dumps(stats)
    assert "pages-asked" not in json.dumps(deployment.cli_json("state", "list", tenant="globex"))
    file = tmp_path / "steal.lua"
    file.write_text('return RAG.search("CSV", {collection = "pages", tenant_id = "acme"})')
    stolen = deployment.cli("run", str(file), tenant="globex")
    assert stolen.returncode != 0
    assert "may not act for the tenant" in stolen.stderr
    named = deployment.cli("rag", "search", "CSV", "--tenant", "acme", tenant="globex")
    assert named.returncode == 4, named.stderr
