"""The scripts of tests/scripts that use one global each, as real runs through the gateway."""

import json
from pathlib import Path

import pytest
from llmspell import Client, RunLog, RunMetrics, RunOutput, RunResult

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SURFACE = json.loads((SCRIPTS / "surface.json").read_text("utf-8"))
FILES = sorted({rows["file"] for rows in SURFACE.values()} | {"arguments.lua"})
ARGUMENTS = {"args": ["one", ""], "named": {"name": "Ann", "count": "5"}}


@pytest.fixture(scope="module")
def tenants(deployment):
    """One for the scripts, one beside it."""
    return [deployment.tenant(name) for name in ("surface", "beside")]


def events_of(deployment, tenant, source, **call):
    """What happens in a run of a tenant."""
    with Client(deployment.address, deployment.keys[tenant]) as client:
        return list(client.run(source, **call))


@pytest.mark.parametrize("file", FILES)
def test_a_global_s_script_holds_as_a_real_run(deployment, tenants, file):
    """Its own asserts hold, for a tenant that has this test module to itself."""
    source = (SCRIPTS / file).read_text("utf-8")
    events = events_of(deployment, tenants[0], source, name=file, **ARGUMENTS)
    assert isinstance(events[-1], RunResult)
    assert events[-1].value == "done"


def test_config_says_what_the_deployment_has(deployment, tenants):
    """Limits, tenant and the key's permissions; nothing that looks like a key."""
    source = "return {Config.get(), Config.toJson()}"
    facts, text = events_of(deployment, tenants[1], source)[-1].value
    assert facts["tenant"] == "beside"
    assert facts["limits"]["wall_s"] == 60
    assert "script.run" in facts["permissions"]["key"]
    assert facts["security"]["allow_file_access"] is True
    assert "llms_" not in text
    assert deployment.keys["beside"].rpartition("_")[2] not in text


def test_a_log_and_metrics_reach_the_caller(deployment, tenants):
    """Beside what is printed, not in it."""
    source = 'print("out") Logger.warn("low", {n = 1}) Metrics.increment("jobs", 2) return 5'
    _, output, line, measured, result = events_of(deployment, tenants[1], source)
    assert output == RunOutput(b"out\n")
    assert line == RunLog("warn", "low", "", {"n": 1})
    assert measured == RunMetrics({"jobs": 2}, {}, {})
    assert result.value == 5
