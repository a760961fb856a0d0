"""A client in TypeScript, generated from the contract, by gRPC, Connect and gRPC-Web.

Its source is tests/clients/typescript.
"""

import os
import re
import subprocess

import pytest

from tests.clients import build

pytestmark = pytest.mark.timeout(600)


def test_a_generated_typescript_client_works_for_two_tenants(deployment):
    """By gRPC, and by each form that browsers use; each tenant sees its own, errors by reason."""
    try:
        folder = build.typescript()
    except build.BuildError as error:
        pytest.skip(f"the TypeScript client cannot be built: {error}")
    variables = {
        "LLMSPELL_ADDRESS": deployment.address,
        "LLMSPELL_HTTP_ADDRESS": deployment.http_address,
        "LLMSPELL_KEY_ACME": deployment.keys["acme"],
        "LLMSPELL_KEY_GLOBEX": deployment.keys["globex"],
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "build/client.test.js"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass 20$", done.stdout, re.MULTILINE), done.stdout
