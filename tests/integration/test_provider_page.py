"""Do the examples of the guide to providers hold, as they stand?"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec

from services.common.settings import ProviderSettings
from services.runtime.providers.configured import places
from services.runtime.providers.presets import PRESETS
from services.runtime.providers.scripted import Script

PAGE = (Path(__file__).resolve().parents[2] / "docs/guide/providers.md").read_text("utf-8")


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


def test_the_operator_s_file_is_read(tmp_path):
    """The file of the page makes the providers that it speaks of, with keys where it says."""
    for name in ("openai", "openai-acme"):
        (tmp_path / name).write_text(f"key-{name}")
    file = tmp_path / "providers.toml"
    file.write_text(block("toml").replace("/run/secrets", str(tmp_path)))
    found = places(ProviderSettings(file=str(file)), {"HOUSE_KEY": "h"})
    assert found["openai"].key_of("acme") == "key-openai-acme"
    assert found["openai"].key_of("globex") == "key-openai"
    assert found["house"].key == "h"
    assert not found["house"].is_for("globex")
    assert not found["house"].capabilities.multimodal
    assert found["vllm"].enabled
    assert set(tomllib.loads(block("toml"))) <= set(found)


def test_the_script_is_a_script():
    """What the page shows as a script of `scripted` is one."""
    assert len(msgspec.json.decode(block("json"), type=Script).replies) == 3


def test_the_page_names_every_provider():
    """Each provider that is known by name has its row, with its variable."""
    table = "".join(line for line in PAGE.splitlines() if line.startswith("| "))
    for place in PRESETS.values():
        assert place.name in table
        assert place.key_variable in table


def test_the_python_example_runs(deployment):
    """The Python block runs with a key of a tenant."""
    done = subprocess.run(
        [sys.executable, "-c", block("python")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | deployment.environment("acme"),
    )
    assert done.returncode == 0, done.stderr
    assert "scripted/echo" in done.stdout
