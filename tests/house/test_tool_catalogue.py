"""Is every tool described, checked and tested?"""

import itertools
import re

import jsonschema_rs
import pytest

from docs import tools_page
from services.runtime.toolbox.model import described
from tests.house import tree

TOOLS = {tool.name: described(tool) for tool in tools_page.every_tool()}
TESTS = {
    path: path.read_text("utf-8")
    for path in (tree.ROOT / "tests" / "unit" / "runtime").rglob("test_*.py")
}
REFUSALS = re.compile(r"raises|refus|reason|failure|Reason\.")
DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}

SPECIFIED = """
base64-encoder base64_encoder
calculator
data-validator data_validation
datetime-handler date_time_handler
diff-calculator diff_calculator
hash-calculator hash_calculator
template-creator template_engine template-engine
text-manipulator text_manipulator
uuid-generator uuid_generator
regex-matcher
csv-analyzer csv_analyzer csv-processor
json-processor json_processor
graph-builder
pdf-processor
citation-formatter
database-connector
xml-processor
file-operations file_operations
archive-handler archive_handler
file-converter file_converter
file-search file_search
file-watcher file_watcher
environment-reader environment_reader environment-manager
process-executor process_executor
service-checker service_checker
system-monitor system_monitor
audio-processor audio_processor
image-processor image_processor
video-processor video_processor
http-requester http_request http-request
graphql-query graphql_query
web-searcher web_search web-search
url-analyzer
web-scraper
api-tester
webhook-caller
webpage-monitor
sitemap-crawler
email-sender
tool-state
document-chunker
embedding-generator
vector-search
similarity-calculator
semantic-search
code-search
rss-reader
"""
"""Every tool of the specification, a line each: its name, then the older ones."""


def test_every_specified_tool_is_there():
    """By its name and by each older one."""
    known = {each: name for name, tool in TOOLS.items() for each in (name, *tool["old_names"])}
    missing = set()
    for line in SPECIFIED.strip().splitlines():
        first, *older = line.split()
        if any(
            known.get(name) != known.get(first) or name not in known for name in (first, *older)
        ):
            missing.add(first)
    assert missing == set()


@pytest.mark.parametrize("name", TOOLS)
def test_schemas_are_schemas(name):
    """Both are JSON Schema 2020-12 of an object's arguments and of a result."""
    tool = TOOLS[name]
    for schema in (tool["parameters"], tool["result"]):
        jsonschema_rs.meta.validate({**DRAFT, **schema})
    assert tool["parameters"]["type"] == "object"
    assert tool["parameters"]["additionalProperties"] is False


@pytest.mark.parametrize("name", TOOLS)
def test_parameters_have_meanings(name):
    """Each has a description, a default that it allows itself, and synonyms that lead to it."""
    tool = TOOLS[name]
    properties = tool["parameters"]["properties"]
    for parameter, rule in properties.items():
        assert len(rule.get("description", "")) > 3, parameter
        if "default" in rule:
            assert jsonschema_rs.is_valid(rule, rule["default"]), parameter
    assert set(tool["parameters"]["required"]) <= properties.keys()
    assert set(tool["synonyms"].values()) <= properties.keys()
    assert not set(tool["synonyms"]) & properties.keys()


@pytest.mark.parametrize("name", TOOLS)
def test_results_have_meanings(name):
    """Each field of a result has a description, too."""
    for field, rule in TOOLS[name]["result"].get("properties", {}).items():
        assert len(rule.get("description", "")) > 3, field


@pytest.mark.parametrize("name", TOOLS)
def test_tools_are_told_of(name):
    """A name of words with hyphens, one sentence, a category, a version."""
    tool = TOOLS[name]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert re.fullmatch(r"[A-Z][^\n]{10,160}\.", tool["description"])
    assert re.fullmatch(r"[a-z]+", tool["category"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", tool["version"])


def test_names_are_apart():
    """No name, old or new, means two tools."""
    names = [(name, *tool["old_names"]) for name, tool in TOOLS.items()]
    every = list(itertools.chain.from_iterable(names))
    assert len(every) == len(set(every))


@pytest.mark.parametrize("name", TOOLS)
def test_tools_are_tested(name):
    """Some unit test executes it, and some test beside it sees it refuse."""
    known = (name, *TOOLS[name]["old_names"])
    naming = [text for text in TESTS.values() if any(f'"{each}"' in text for each in known)]
    assert naming, f"no test under tests/unit/runtime names {name}"
    assert any(REFUSALS.search(text) for text in naming)
