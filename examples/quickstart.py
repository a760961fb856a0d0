"""Keep state, ingest documents, find passages, run a script.

Run it with `python examples/quickstart.py` while `llmspell up` runs.
"""

# ruff: noqa: INP001, T201  (an example is a script that prints)

from __future__ import annotations

import sys

from llmspell import Client, Conflict, Document, RunOutput, RunResult

DOCUMENTS = [
    Document("The kettle is in the cupboard above the sink.", "kettle", {"room": "kitchen"}),
    Document("The spare key hangs behind the blue door.", "key", {"room": "hall"}),
    Document("Water the fern on Mondays, never more.", "fern", {"room": "hall"}),
]

SCRIPT = """
local found = RAG.search(ARGS.question, {k = 1, collection = "quickstart"})
print("The script found: " .. found.results[1].text)
return found.total
"""


def keep_state(client: Client) -> None:
    """Write an item, read it back, and lose a race on purpose."""
    client.set_state("visits", {"count": 1}, scope="user:anna")
    item = client.get_state("visits", scope="user:anna")
    assert item is not None
    print("state:", item.value, "at revision", item.revision)
    client.set_state("visits", {"count": 2}, scope="user:anna", if_revision=item.revision)
    try:
        client.set_state("visits", {"count": 9}, scope="user:anna", if_revision=item.revision)
    except Conflict as error:
        print("state:", error.message)


def find_passages(client: Client) -> None:
    """Ingest three notes and ask for one of them, everywhere and in one room only."""
    done = client.ingest(DOCUMENTS, collection="quickstart")
    print("documents:", done.chunk_count, "chunks stored")
    for where in (None, {"room": "hall"}):
        found = client.retrieve("Where do I boil water?", 1, collection="quickstart", filter=where)
        for passage in found:
            print(f"documents: {passage.score:.2f} {passage.text}  (filter {where})")


def run_script(client: Client) -> None:
    """Run a script beside the data; what it prints comes as it happens."""
    for event in client.run(SCRIPT, name="quickstart.lua", named={"question": "the fern"}):
        if isinstance(event, RunOutput):
            sys.stdout.write(event.data.decode())
        elif isinstance(event, RunResult):
            print("script: returned", event.value, "after", event.call_count, "call")


def main() -> None:
    """Address and key come from the environment or the profile of `llmspell up`."""
    with Client() as client:
        print("speaking for:", client.who_am_i().tenant_id)
        keep_state(client)
        find_passages(client)
        run_script(client)


if __name__ == "__main__":
    main()
