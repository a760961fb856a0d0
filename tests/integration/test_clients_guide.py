"""Do the examples of the page on clients run, as they stand, on a real deployment?"""

import os
import re
import subprocess
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guide" / "clients.md"
SOURCES = {
    "go": ROOT / "tests" / "clients" / "go" / "client_test.go",
    "ts": ROOT / "tests" / "clients" / "typescript" / "client.test.ts",
}


def blocks(kind):
    """The page's blocks of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def flat(text):
    """Lines without what depends on where they stand."""
    return [line.strip() for line in textwrap.dedent(text).splitlines() if line.strip()]


def test_what_the_page_shows_of_other_languages_is_tested():
    """Each block stands, line after line, in the client that the tests build and run."""
    for kind, source in SOURCES.items():
        lines = flat(source.read_text("utf-8"))
        assert len(blocks(kind)) >= 4
        for block in blocks(kind):
            wanted = flat(block)
            places = range(len(lines) - len(wanted) + 1)
            assert any(lines[place : place + len(wanted)] == wanted for place in places), block


def test_the_commands_of_the_page_run(deployment):
    """All of them, one after the other, and as another tenant they find nothing of it."""
    tenant = deployment.tenant("clients-guide")
    done = run(deployment, tenant, "\n".join(blocks("bash")))
    assert '"text": "rest"' in done
    assert '"recordId": "red"' in done
    assert '"reason": "ITEM_NOT_FOUND"' in done
    assert '{"output": {"data": "MQo="}}' in done
    assert r'{"result": {"json": "{\"answer\":42}"' in done
    other = run(deployment, "acme", blocks("bash")[0].splitlines()[0] + "\ncall $ASK")
    assert "ITEM_NOT_FOUND" in other


def run(deployment, tenant, script):
    """What a shell prints."""
    variables = {
        "LLMSPELL_HTTP": deployment.http_address,
        "LLMSPELL_API_KEY": deployment.keys[tenant],
        "ASK": 'StateService/GetState {"key":"plan"}',
    }
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        env=os.environ | variables,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()
