"""Do the example applications do what their first lines say, through the gateway, for two tenants?

With answers that are played, so that what comes out is known; and once each with the real model,
of which nothing is claimed but that the application runs to its end with what it said.
"""

import json
import re
from pathlib import Path

import pytest
from llmspell import Client

APPLICATIONS = Path(__file__).resolve().parents[2] / "examples" / "applications"
ALL = sorted(path.stem for path in APPLICATIONS.glob("*.lua"))


class Tenant:
    """One tenant of a test: runs applications and looks at what they left."""

    def __init__(self, deployment, name):
        self.deployment, self.name = deployment, deployment.tenant(name)

    def run(self, application, *words, **arguments):
        """What the application gives; words are behind `--`."""
        given = [part for pair in arguments.items() for part in ("--arg", "=".join(pair))]
        path = str(APPLICATIONS / f"{application}.lua")
        done = self.deployment.cli("run", path, "--json", *given, *words, tenant=self.name)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["result"]

    def client(self):
        """Its client."""
        return Client(self.deployment.address, self.deployment.keys[self.name])

    def files(self, operation, **arguments):
        """What a file operation gives."""
        with self.client() as client:
            done = client.execute_tool("file-operations", {"operation": operation, **arguments})
            assert done.success, done
            return done.result

    def names(self, folder):
        """Names of the files below a folder."""
        entries = self.files("list_dir", path=folder, recursive=True)["entries"]
        return sorted(one["path"] for one in entries if one["type"] == "file")

    def state(self, scope, key):
        """What State has; None where it has nothing."""
        with self.client() as client:
            item = client.get_state(key, scope=scope)
            return None if item is None else item.value


@pytest.fixture
def tenants(deployment, request):
    """Two tenants that the test has to itself."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:50].strip("-")
    return [Tenant(deployment, f"{name}-{letter}") for letter in "ab"]


def test_a_knowledge_base_answers_with_sources(tenants):
    """Each answer is of the document that has it; each tenant's questions are counted alone."""
    ours, theirs = tenants
    told = ours.run("knowledge_base")
    assert [answer["sources"][0] for answer in told["answers"]] == [
        "heating.md",
        "waste.md",
        "keys.md",
    ]
    assert all("[1]" in answer["text"] for answer in told["answers"])
    assert told["unanswered"] in ([], {})
    assert ours.run("knowledge_base")["asked"] == 6
    assert theirs.run("knowledge_base")["asked"] == 3


def test_a_knowledge_base_reads_a_folder(tenants):
    """The documents may be files of the tenant, which the other tenant's questions do not find."""
    ours, theirs = tenants
    ours.files("create_dir", path="notes")
    ours.files(
        "write", path="notes/cat.md", input="# Cat\nThe cat is called Ysolde and is fed at six."
    )
    question = "When is the cat fed?"
    told = ours.run("knowledge_base", "--", question, folder="notes")
    assert told["answers"][0]["sources"] == ["notes/cat.md"]
    told = theirs.run("knowledge_base", "--", question)
    assert "notes/cat.md" not in told["answers"][0]["sources"]


def test_a_code_review_merges_what_all_found(tenants):
    """The findings of three reviewers are in one report, the most serious first, in a file."""
    ours, theirs = tenants
    told = ours.run("code_review")
    assert [(one["severity"], one["aspect"], one["line"]) for one in told["findings"]] == [
        ("high", "security", 6),
        ("medium", "correctness", 4),
        ("medium", "correctness", 13),
        ("low", "style", 10),
    ]
    report = ours.files("read", path=told["report"])["input"]
    assert "- line 6, high (security): name reaches a shell" in report
    assert "line 6 looks dangerous to a search: `" in report
    assert told["spent"]["model_calls"] == 3
    assert theirs.names(".") == []


def test_a_research_collector_keeps_versions(tenants):
    """Each topic has its passages and a note; a second run adds a version of the report."""
    ours, theirs = tenants
    told = ours.run("research_collector")
    assert [sorted(note["sources"]) for note in told["notes"]] == [
        ["tides-1", "tides-2"],
        ["bees-1", "bees-2"],
    ]
    again = ours.run("research_collector", "--", "the dance of bees")
    assert again["session"] == told["session"]
    assert again["artifact"]["sequence"] > told["artifact"]["sequence"]
    assert ours.state("custom:research", "the dance of bees")["text"].startswith("Bees dance")
    assert theirs.state("custom:research", "the dance of bees") is None


def test_a_file_organizer_moves_and_takes_back(tenants):
    """A plan moves nothing; applied it moves each file; undone all are where they were."""
    ours, theirs = tenants
    told = ours.run("file_organizer", demo="yes")
    before = ours.names("inbox")
    assert told["moved"] == 0
    assert len(before) == 5
    assert {one["by"] for one in told["plan"]} == {"name", "model"}
    ours.run("file_organizer", apply="yes")
    assert ours.names("inbox") == [
        "inbox/bills/scan-1.txt",
        "inbox/letters/scan-2.txt",
        "inbox/pictures/beach.jpg",
        "inbox/recipes/scan-3.txt",
        "inbox/tables/totals.csv",
    ]
    assert ours.run("file_organizer", undo="yes")["undone"] == 5
    assert ours.names("inbox") == before
    assert theirs.run("file_organizer", undo="yes")["undone"] == 0


def test_a_file_organizer_puts_back_what_it_moved(tenants):
    """Where a file is in the way, what was moved before it is moved back."""
    ours, _ = tenants
    ours.run("file_organizer", demo="yes")
    ours.files("create_dir", path="inbox/tables")
    ours.files("write", path="inbox/tables/totals.csv", input="in the way")
    before = ours.names("inbox")
    path = str(APPLICATIONS / "file_organizer.lua")
    failed = ours.deployment.cli("run", path, "--arg", "apply=yes", tenant=ours.name)
    assert failed.returncode != 0
    assert "totals.csv" in failed.stderr
    assert ours.names("inbox") == before


def test_a_personal_assistant_remembers(tenants):
    """It calls its tools, keeps the list for the next run, recalls by meaning; others see none."""
    ours, theirs = tenants
    told = ours.run("personal_assistant")
    assert [list(answer["tools"]) for answer in told["answers"]] == [
        [],
        ["add_task"],
        ["add_task"],
        ["finish_task"],
        ["list_tasks"],
    ]
    assert told["answers"][4]["text"] == "There is: 1. buy a cake for Ana."
    assert told["answers"][1]["remembered"] >= 1
    assert ours.run("personal_assistant", "--", "What is on my list?")["tasks"] == told["tasks"]
    assert theirs.state("user:me", "tasks") is None


@pytest.mark.parametrize("application", ["code_review", "personal_assistant"])
def test_a_run_of_it_is_made_again(tenants, application):
    """A run that is kept comes out the same when it is made again, its agents' answers included."""
    ours, theirs = tenants
    with ours.client() as client:
        session = client.create_session("again").session_id
    path = str(APPLICATIONS / f"{application}.lua")
    done = ours.deployment.cli("run", path, "--session", session, tenant=ours.name)
    assert done.returncode == 0, done.stderr
    with ours.client() as client:
        (kept,) = client.list_runs()
    again = ours.deployment.cli("run", "replay", kept.run_id, tenant=ours.name)
    assert again.stdout.startswith("identical: "), again.stdout + again.stderr
    assert ours.deployment.cli("run", "replay", kept.run_id, tenant=theirs.name).returncode != 0


@pytest.mark.parametrize("application", ALL)
def test_it_runs_on_the_real_model(local_deployment, application):
    """The application ends well with a model that says what it likes."""
    less = {"code_review": {"aspects": "security"}, "file_organizer": {"demo": "yes"}}
    words = ["--", "What is on my list?"] if application == "personal_assistant" else []
    given = {"model": "llamacpp/smollm2-135m-instruct", **less.get(application, {})}
    assert Tenant(local_deployment, "acme").run(application, *words, **given)
