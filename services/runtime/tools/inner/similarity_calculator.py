"""similarity-calculator: how alike vectors or texts are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.common.errors import field_invalid
from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters
from services.runtime.tools.inner.desk import InnerDesk
from services.runtime.tools.inner.embedding_generator import embed

TARGETS_MAX = 100
_LENGTH_MAX = 4096

Vector = Sequence[float]


def _cosine(a: Vector, b: Vector) -> float:
    """0 where one of them has no direction."""
    size = math.hypot(*a) * math.hypot(*b)
    return max(-1.0, min(1.0, _product(a, b) / size)) if size else 0.0


def _product(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def _manhattan(a: Vector, b: Vector) -> float:
    return math.fsum(abs(x - y) for x, y in zip(a, b, strict=True))


_METRICS: Mapping[str, tuple[Callable[[Vector, Vector], float], bool]] = {
    "cosine": (_cosine, True),
    "dot": (_product, True),
    "euclidean": (math.dist, False),
    "manhattan": (_manhattan, False),
}
"""How each is computed, and whether a larger value means more alike."""


async def _run(arguments: Arguments, desk: InnerDesk) -> Outcome:
    if ("target" in arguments) == ("targets" in arguments):
        raise field_invalid("target", "or targets must be set, and not both")
    targets = arguments["targets"] if "targets" in arguments else [arguments["target"]]
    vectors = await _vectors([arguments["input"], *targets], arguments, desk)
    measure, larger = _METRICS[arguments["metric"]]
    values = [_finite(measure(vectors[0], other)) for other in vectors[1:]]
    if "target" in arguments:
        return _compared(values[0], arguments["metric"], larger=larger)
    ranked = sorted(range(len(values)), key=lambda n: -values[n] if larger else values[n])
    results = [_entry(n, values[n], targets[n], larger=larger) for n in ranked]
    result = {"metric": arguments["metric"], "results": results, "count": len(results)}
    return Outcome(operation="rank", result=result, message=f"Ranked {len(results)}")


def _compared(value: float, metric: str, *, larger: bool) -> Outcome:
    result = {"metric": metric, **_both(value, larger=larger)}
    return Outcome(operation="compare", result=result, message=f"{metric}: {value:.6g}")


def _entry(index: int, value: float, target: Any, *, larger: bool) -> dict[str, Any]:
    entry = {"index": index, **_both(value, larger=larger)}
    return entry | ({"text": target} if isinstance(target, str) else {})


def _both(value: float, *, larger: bool) -> dict[str, float]:
    """A similarity; of a distance, what falls from 1 as it grows, beside it."""
    if larger:
        return {"similarity": value}
    return {"similarity": 1.0 / (1.0 + value), "distance": value}


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise field_invalid("input", "and what it is compared with are too large to be measured")
    return value


async def _vectors(given: Sequence[Any], arguments: Arguments, desk: InnerDesk) -> list[Vector]:
    """All as vectors of one length."""
    texts = [isinstance(each, str) for each in given]
    if all(texts):
        answer = await embed(desk, list(given), "input", arguments.get("provider"))
        made: list[Vector] = answer["vectors"]
        return made
    if any(texts):
        raise field_invalid("target", "must be of the kind of input: all texts, or all vectors")
    for position, vector in enumerate(given[1:]):
        if len(vector) != len(given[0]):
            place = f"targets[{position}]" if "targets" in arguments else "target"
            raise field_invalid(place, f"must have {len(given[0])} numbers, as input has")
    return list(given)


def _one(description: str) -> dict[str, Any]:
    numbers = {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 1,
        "maxItems": _LENGTH_MAX,
    }
    return {"description": description, "anyOf": [{"type": "string"}, numbers]}


_TARGETS = {
    "type": "array",
    "minItems": 1,
    "maxItems": TARGETS_MAX,
    "items": _one("A text or a vector."),
    "description": f"Several, at most {TARGETS_MAX}, to be ranked; instead of `target`.",
}
TOOL = Tool(
    name="similarity-calculator",
    description="Measures how alike vectors or texts are, and ranks several.",
    category="rag",
    level=Level.SAFE,
    synonyms={
        "a": "input",
        "text1": "input",
        "vector1": "input",
        "vector_a": "input",
        "query": "input",
        "b": "target",
        "text2": "target",
        "vector2": "target",
        "vector_b": "target",
        "candidates": "targets",
        "method": "metric",
        "algorithm": "metric",
    },
    parameters=parameters(
        ("input",),
        input=_one("A text or a vector."),
        target=_one("What it is compared with, of the same kind."),
        targets=_TARGETS,
        metric={
            "enum": list(_METRICS),
            "default": "cosine",
            "description": "How; texts are compared by their vectors.",
        },
        provider={"type": "string", "description": "Embedding provider for texts."},
    ),
    result={
        "type": "object",
        "properties": {
            "metric": {"type": "string", "description": "How it was measured."},
            "similarity": {
                "type": "number",
                "description": "Larger is more alike; for a distance it is 1 / (1 + distance).",
            },
            "distance": {
                "type": "number",
                "description": "Smaller is more alike; with euclidean and manhattan.",
            },
            "results": {
                "type": "array",
                "description": "With `targets`, the most alike first: `index` in `targets`, "
                "`similarity`, `distance`, `text`.",
                "items": {"type": "object", "required": ["index", "similarity"]},
            },
            "count": {"type": "integer", "description": "How many `results`."},
        },
        "required": ["metric"],
    },
    notes="Texts are embedded with the model that RAG uses, which needs rag.embed; vectors need "
    "nothing.",
    run=_run,
)
