"""graph-builder."""

import json

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "graph-builder"


def graph(kind, nodes, *edges):
    return {
        "graph_type": kind,
        "nodes": [{"id": node} for node in nodes],
        "edges": [{"from": edge[0], "to": edge[1], "weight": int(edge[2:] or 1)} for edge in edges],
    }


async def test_a_graph_is_built_step_by_step(hand):
    """Each step takes a graph and gives the next; the counts are kept."""
    made = await hand.result(NAME, operation="create_graph", graph_type="undirected")
    assert (made["nodes"], made["metadata"]["node_count"]) == ([], 0)
    for node in ("a", "b"):
        made = await hand.result(
            NAME, operation="add_node", graph=made, node_id=node, label=node.upper(), data={"n": 1}
        )
    made = await hand.result(
        NAME, operation="add_edge", graph=made, **{"from": "a", "to": "b"}, weight=2
    )
    assert made["nodes"][1] == {"id": "b", "label": "B", "data": {"n": 1}}
    assert made["edges"] == [{"from": "a", "to": "b", "label": None, "weight": 2, "data": None}]
    assert (made["metadata"]["node_count"], made["metadata"]["edge_count"]) == (2, 1)
    assert made["metadata"]["last_modified"] >= made["metadata"]["created_at"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (graph("directed", ""), {"density": 0.0, "is_empty": True, "is_connected": False}),
        (
            graph("undirected", "abc", "ab", "bc", "ca"),
            {"density": 1.0, "is_complete": True, "has_cycles": True, "average_degree": 2.0},
        ),
        (
            graph("directed", "abc", "ab", "bc", "ac"),
            {"density": 0.5, "is_complete": False, "has_cycles": False, "max_degree": 2},
        ),
        (
            graph("directed", "abcd", "ab", "ba"),
            {"component_count": 3, "has_cycles": True, "min_degree": 0, "largest_component": 2},
        ),
        (
            graph("undirected", "ab", "aa"),
            {"has_self_loops": True, "density": 0.0, "max_degree": 2},
        ),
        (graph("undirected", "abc", "ab", "bc"), {"has_cycles": False, "is_connected": True}),
    ],
)
async def test_a_graph_is_analyzed_truly(hand, given, expected):
    """Density, degrees, components, cycles and loops."""
    result = await hand.result(NAME, operation="analyze", input=given)
    flat = {**result, **result["degree_statistics"], **result["properties"]}
    assert {name: flat[name] for name in expected} == expected
    assert result["node_ids"] == [node["id"] for node in given["nodes"]]


async def test_the_cheapest_way_is_found(hand):
    """By weights and directions."""
    given = graph("directed", "abcd", "ab1", "bc1", "ac5", "da1")
    asked = {"operation": "shortest_path", "graph": given, "from": "a"}
    assert await hand.result(NAME, **asked, to="c") == {
        "found": True,
        "path": ["a", "b", "c"],
        "cost": 2.0,
    }
    assert (await hand.result(NAME, **asked, to="d"))["found"] is False


async def test_a_graph_goes_out_and_comes_in(hand):
    """As a JSON text, which is the same graph again."""
    given = graph("directed", "ab", "ab3")
    out = await hand.result(NAME, operation="export_json", graph=given)
    assert json.loads(out["json"])["edges"][0]["weight"] == 3
    back = await hand.result(NAME, operation="import_json", input=out["json"])
    assert back == json.loads(out["json"])


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({"graph_type": "round"}, Reason.FIELD_INVALID, "graph_type"),
        (
            {"operation": "add_node", "graph": graph("directed", "a")},
            Reason.FIELD_REQUIRED,
            "node_id",
        ),
        (
            {"operation": "add_node", "graph": graph("directed", "a"), "node_id": "a"},
            Reason.FIELD_INVALID,
            "node_id",
        ),
        (
            {"operation": "add_edge", "graph": graph("directed", "a"), "from": "a", "to": "b"},
            Reason.FIELD_INVALID,
            "to",
        ),
        ({"operation": "analyze"}, Reason.FIELD_REQUIRED, "input"),
        ({"operation": "analyze", "input": [1]}, Reason.FIELD_INVALID, "input"),
        (
            {"operation": "import_json", "input": graph("directed", "a", "ab")},
            Reason.FIELD_INVALID,
            "input.edges[0].to",
        ),
        (
            {"operation": "import_json", "input": graph("directed", "aa")},
            Reason.FIELD_INVALID,
            "input.nodes",
        ),
        ({"operation": "import_json", "input": "{"}, Reason.FIELD_INVALID, "input"),
        (
            {"operation": "import_json", "input": {"nodes": list(range(10_001))}},
            Reason.LIMIT_EXCEEDED,
            "nodes",
        ),
        (
            {
                "operation": "shortest_path",
                "graph": graph("directed", "ab", "ab-1"),
                "from": "a",
                "to": "b",
            },
            Reason.FIELD_INVALID,
            "graph",
        ),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason, field):
    """Ends that are no nodes, ids twice, what is no graph, too much of it."""
    error = await hand.refusal("graph_builder", **arguments)
    assert (error.reason, error.metadata["field"]) == (reason, field)
