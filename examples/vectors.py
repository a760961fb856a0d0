"""Vectors of one's own: a collection, an upsert, filtered searches, side by side with asyncio.

Run it with `python examples/vectors.py` while `llmspell up` runs.
"""

# ruff: noqa: INP001, T201  (an example is a script that prints)

from __future__ import annotations

import asyncio
import random
from array import array

from llmspell import AlreadyExists, AsyncClient, Record

COLLECTION = "example-colours"
DIMENSION = 3
COUNT = 300


def colours() -> list[Record]:
    """Random colours: the vector is red, green, blue; the name says which is strongest."""
    draw = random.Random(7)  # noqa: S311  (colours are no secret)
    records = []
    for number in range(COUNT):
        vector = array("f", (draw.random() for _ in range(DIMENSION)))
        strongest = ("red", "green", "blue")[vector.index(max(vector))]
        records.append(Record(f"c{number}", vector, {"name": strongest, "number": number}))
    return records


async def main() -> None:
    """Store the colours, then search for three of them at the same time."""
    async with AsyncClient() as client:
        try:
            await client.create_collection(COLLECTION, DIMENSION, metric="l2")
        except AlreadyExists:
            print("the collection is there from an earlier run")
        await client.upsert(COLLECTION, colours())
        wanted = {"red": [1, 0, 0], "green": [0, 1, 0], "dark blue": [0, 0, 0.5]}
        found = await asyncio.gather(
            *(
                client.search(COLLECTION, vector, 2, filter={"number": {"lt": COUNT // 2}})
                for vector in wanted.values()
            )
        )
        for name, hits in zip(wanted, found, strict=True):
            print(f"{name}:", ", ".join(f"{hit.record_id} {hit.metadata['name']}" for hit in hits))
        stats = await client.stats("global")
        print(stats.record_count, "records in", stats.collection_count, "collections")
        print(await client.delete_collection(COLLECTION), "records removed")


if __name__ == "__main__":
    asyncio.run(main())
