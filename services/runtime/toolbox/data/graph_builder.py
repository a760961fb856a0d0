"""graph-builder: graphs as values, made step by step, and what can be said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from services.runtime.toolbox.data import graphs
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters, required
from services.runtime.toolbox.schema import (
    anything,
    choice,
    flag,
    listing,
    mapping,
    number,
    one_of,
    record,
    text,
    whole,
)


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    del desk
    operation = arguments["operation"]
    return Outcome(operation=operation, result=_OPERATIONS[operation](arguments))


def _graph(arguments: Arguments) -> graphs.Graph:
    """From `graph` or `input`."""
    field = "graph" if "graph" in arguments else "input"
    return graphs.checked(required(arguments, field), field=field)


def _add_node(arguments: Arguments) -> graphs.Graph:
    node = {
        "id": str(required(arguments, "node_id")),
        "label": arguments.get("label"),
        "data": arguments.get("data"),
    }
    return graphs.with_node(_graph(arguments), node)


def _add_edge(arguments: Arguments) -> graphs.Graph:
    edge = {
        "from": str(required(arguments, "from")),
        "to": str(required(arguments, "to")),
        "label": arguments.get("label"),
        "weight": arguments.get("weight"),
        "data": arguments.get("data"),
    }
    return graphs.with_edge(_graph(arguments), edge)


def _export(arguments: Arguments) -> dict[str, Any]:
    graph = _graph(arguments)
    written = json.dumps(graph, ensure_ascii=False, indent=2)
    return {"json": written, "size_bytes": len(written.encode()), **graph["metadata"]}


def _path(arguments: Arguments) -> dict[str, Any]:
    start, end = (str(required(arguments, name)) for name in ("from", "to"))
    return graphs.shortest_path(_graph(arguments), start, end)


_OPERATIONS: dict[str, Callable[[Arguments], dict[str, Any]]] = {
    "create_graph": lambda arguments: graphs.created(arguments["graph_type"]),
    "add_node": _add_node,
    "add_edge": _add_edge,
    "analyze": lambda arguments: graphs.analyzed(_graph(arguments)),
    "shortest_path": _path,
    "export_json": _export,
    "import_json": _graph,
}
_ID = {"type": ["string", "integer"]}
_EXTRA = {"label": anything("Its name, or null."), "data": anything("More of it, or null.")}

TOOLS = (
    Tool(
        name="graph-builder",
        description="Builds graphs of nodes and edges, and analyzes them.",
        category="data",
        level=Level.SAFE,
        synonyms={"id": "node_id", "type": "graph_type", "json": "input", "source": "from"},
        parameters=parameters(
            (),
            operation=choice("What to do.", *_OPERATIONS, default="create_graph"),
            graph_type=choice(
                "create_graph: which kind.", "directed", "undirected", default="directed"
            ),
            graph=anything("The graph so far: a result of this tool, or a JSON text."),
            input=anything("The same, for analyze, export_json and import_json."),
            node_id={**_ID, "description": "add_node: its id, new in the graph."},
            **{
                "from": {**_ID, "description": "add_edge, shortest_path: node where it begins."},
                "to": {**_ID, "description": "add_edge, shortest_path: node where it ends."},
            },
            label=text("add_node, add_edge: its name."),
            weight=number("add_edge: its cost."),
            data=anything("add_node, add_edge: more of it."),
        ),
        result=one_of(
            record(
                "The graph: of create_graph, add_node, add_edge and import_json.",
                ("graph_type", "nodes", "edges", "metadata"),
                graph_type=text("directed or undirected."),
                nodes=listing(
                    "Its nodes.", record("", ("id",), id=text("Unique in the graph."), **_EXTRA)
                ),
                edges=listing(
                    "Its edges.",
                    mapping("from, to, label, weight, data.", anything("One of them.")),
                ),
                metadata=mapping("created_at, node_count, edge_count.", anything("One of them.")),
            ),
            record(
                "Of analyze.",
                ("node_count", "edge_count", "graph_type", "density"),
                node_count=whole("Nodes."),
                edge_count=whole("Edges."),
                graph_type=text("directed or undirected."),
                density=number("Pairs of nodes that an edge joins, of all there could be."),
                degree_statistics=mapping("max_degree, min_degree, average_degree.", {}),
                properties=mapping(
                    "is_empty, is_complete, has_self_loops, is_connected, has_cycles.",
                    {"type": "boolean"},
                ),
                component_count=whole("Parts that no edge joins."),
                largest_component=whole("Nodes of the largest."),
                node_ids=listing("Ids of all nodes.", text("One.")),
                note=text("What the words mean."),
            ),
            record(
                "Of shortest_path.",
                ("found", "path", "cost"),
                found=flag("Whether there is one."),
                path=listing("Ids of its nodes.", text("One.")),
                cost={"type": ["number", "null"], "description": "Sum of its weights."},
            ),
            mapping("Of export_json: json, size_bytes, node_count, edge_count.", {}),
        ),
        notes=f"At most {graphs.NODES_MAX} nodes and {graphs.EDGES_MAX} edges. A graph is a value: "
        "each step takes one and gives another.",
        run=_run,
    ),
)
