"""The commands of docs/guide/identity.md, as they stand there."""

from __future__ import annotations

import re
import shlex

from typer.testing import CliRunner

from services.gateway.cli.main import app
from tests.house import tree


def commands():
    """Each `llmspell …` of the page's shell blocks, as words."""
    page = tree.text("docs/guide/identity.md")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("llmspell ")]


def run(deployment, words, folder):
    """In this process: the page has many of them."""
    environment = dict.fromkeys(("LLMSPELL_ADDRESS", "LLMSPELL_API_KEY"))
    environment["LLMSPELL_PROFILE"] = str(deployment.profile)
    if words[0] in {"token", "login", "logout", "profile"}:
        environment = {
            "LLMSPELL_ADDRESS": deployment.address,
            "LLMSPELL_API_KEY": deployment.keys["acme"],
            "LLMSPELL_PROFILE": "",
            "XDG_CONFIG_HOME": str(folder),
        }
    asked = ["--key-stdin"] if words[0] == "login" else []  # nobody is there to be asked
    key = deployment.keys["acme"]
    return CliRunner().invoke(app, [*words, *asked], env=environment, input=key)


def test_the_pages_commands_do_what_they_say(deployment, tmp_path):
    """One after the other: the operator's with its profile, `token` and `login` with a key."""
    ran, key_id = [], ""
    for written in commands():
        words = [key_id if word == "KEY_ID" else word for word in written]
        done = run(deployment, words, tmp_path)
        assert done.exit_code == 0, (words, done.output)
        if words[:2] == ["key", "create"]:
            key_id = done.stdout.split("_")[1]
        if words[:2] == ["key", "rotate"]:
            assert done.stdout.startswith(f"llms_{key_id}_")
        if words[0] == "token":
            assert done.stdout.startswith("llmt_")
        ran.append(" ".join(words[:2]))
    assert len(ran) >= 12
    assert key_id
