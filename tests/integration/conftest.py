"""A deployment that the tests share, and fresh ones for tests that break theirs."""

import pytest

from tests.integration.deployment import deployed


@pytest.fixture(scope="session")
def deployment(tmp_path_factory):
    """Four processes that live as long as the test run."""
    with deployed(tmp_path_factory.mktemp("deployment")) as up:
        yield up


@pytest.fixture
def fresh_deployment(tmp_path):
    """Four processes for one test, which may break them."""
    with deployed(tmp_path) as up:
        yield up
