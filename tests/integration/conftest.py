"""A deployment that the tests share, and fresh ones for tests that break theirs."""

import pytest

from tests.integration.deployment import deployed, free_port
from tests.integration.wired import wired as wired_deployment


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """Four processes that live as long as the test run, with calls by HTTP."""
    address = f"127.0.0.1:{free_port()}"
    variables = {
        "LLMSPELL__GATEWAY__HTTP_LISTEN": address,
        "LLMSPELL__GATEWAY__HTTP_ORIGINS": "https://app.example.com",
    }
    with deployed(tmp_path_factory.mktemp("deployment"), variables=variables) as up:
        up.http_address = address
        yield up


@pytest.fixture
def fresh_deployment(tmp_path):
    """Four processes for one test, which may break them."""
    with deployed(tmp_path) as up:
        yield up


@pytest.fixture(scope="session")
def local_deployment(tmp_path_factory, local_model):
    """Four processes that have the real local model as the provider `llamacpp`."""
    folder = tmp_path_factory.mktemp("local")
    providers = folder / "providers.toml"
    providers.write_text(f'[llamacpp]\nenabled = true\nbase_url = "{local_model.base_url}"\n')
    with deployed(folder, variables={"LLMSPELL__PROVIDERS__FILE": str(providers)}) as up:
        yield up


@pytest.fixture(scope="session")
def wired(tmp_path_factory):
    """Four processes that the tests of agents share, and a server whose models the tests write."""
    with wired_deployment(tmp_path_factory.mktemp("wired")) as up:
        yield up
