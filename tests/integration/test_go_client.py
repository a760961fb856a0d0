"""A client in Go, generated from the contract, against the four processes: tests/clients/go."""

import os
import subprocess

import pytest

from tests.clients import build

pytestmark = pytest.mark.timeout(600)


def test_a_generated_go_client_works_for_two_tenants(deployment):
    """State, search, a script's stream, errors by reason, a deadline; each tenant sees its own."""
    try:
        folder = build.go()
    except build.BuildError as error:
        pytest.skip(f"the Go client cannot be built: {error}")
    variables = {
        "LLMSPELL_ADDRESS": deployment.address,
        "LLMSPELL_KEY_ACME": deployment.keys["acme"],
        "LLMSPELL_KEY_GLOBEX": deployment.keys["globex"],
    }
    done = subprocess.run(
        ["./client.test", "-test.v"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("--- PASS") == 5
    assert "--- SKIP" not in done.stdout
