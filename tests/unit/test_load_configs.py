"""The configurations of `make load`: whoever runs them learns of a typing error after a minute."""

import json
from pathlib import Path

import pytest

from services.common.access import METHODS
from tests.performance.load_page import WHAT

FOLDER = Path(__file__).resolve().parents[2] / "load"
CONFIGS = {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
KEYS = {
    "call",
    "concurrency",
    "connections",
    "duration",
    "duration-stop",
    "timeout",
    "data",
    "data-file",
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_each_asks_a_method_of_the_contract(config):
    """With fields that its request has, and settings that ghz knows."""
    method = METHODS["/" + config["call"]]
    assert set(config) <= KEYS
    fields = method.descriptor.input_type.fields_by_name
    assert set(config.get("data", {})) <= set(fields)
    assert float(config["duration"].removesuffix("s")) <= 10


def test_the_page_tells_of_each():
    """Every configuration has a row, and every row a configuration."""
    assert set(CONFIGS) == set(WHAT)
