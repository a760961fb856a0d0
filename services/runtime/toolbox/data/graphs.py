"""Graphs as scripts hold them: plain values with nodes and edges; and what can be said of them."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.runtime.toolbox import clock, json_text
from services.runtime.toolbox.model import field_invalid, limit_exceeded

NODES_MAX = 10_000
EDGES_MAX = 50_000

Graph = dict[str, Any]
"""`graph_type`, `nodes`, `edges`, `metadata`."""


def created(graph_type: str) -> Graph:
    """An empty graph."""
    return _counted(
        {"graph_type": graph_type, "nodes": [], "edges": [], "metadata": {"created_at": _now()}}
    )


def _now() -> str:
    return clock.now().isoformat()


def _counted(graph: Graph) -> Graph:
    counts = {"node_count": len(graph["nodes"]), "edge_count": len(graph["edges"])}
    return {**graph, "metadata": {**graph["metadata"], **counts}}


def checked(given: Any, *, field: str) -> Graph:
    """A graph from a value or a JSON text, with all its parts; also out of an answer of this tool.

    Raises:
        ToolError: FIELD_INVALID naming the part, LIMIT_EXCEEDED.
    """
    value = json_text.given(given, field=field)
    for wrapping in ("result", "result", "graph"):
        if isinstance(value, dict) and "nodes" not in value and wrapping in value:
            value = value[wrapping]
    if not isinstance(value, dict):
        raise field_invalid(field, "must be a graph: an object with nodes and edges")
    graph_type = value.get("graph_type", "directed")
    if graph_type not in ("directed", "undirected"):
        raise field_invalid(f"{field}.graph_type", "must be directed or undirected")
    nodes = [_node(node, f"{field}.nodes[{at}]") for at, node in enumerate(_list(value, "nodes"))]
    edges = [_edge(edge, f"{field}.edges[{at}]") for at, edge in enumerate(_list(value, "edges"))]
    _check(nodes, edges, field)
    metadata = value.get("metadata")
    kept = metadata if isinstance(metadata, dict) else {"created_at": _now()}
    return _counted({"graph_type": graph_type, "nodes": nodes, "edges": edges, "metadata": kept})


def _list(value: dict[str, Any], name: str) -> list[Any]:
    """An empty table of Lua is a list, too."""
    given = value.get(name) or []
    if not isinstance(given, list):
        raise field_invalid(name, "must be a list")
    most = NODES_MAX if name == "nodes" else EDGES_MAX
    if len(given) > most:
        raise limit_exceeded(name, len(given), most)
    return given


def _node(given: Any, field: str) -> dict[str, Any]:
    if isinstance(given, str | int):
        given = {"id": given}
    if not isinstance(given, dict) or not isinstance(given.get("id"), str | int):
        raise field_invalid(f"{field}.id", "must be set")
    return {"id": str(given["id"]), "label": given.get("label"), "data": given.get("data")}


def _edge(given: Any, field: str) -> dict[str, Any]:
    ends = given if isinstance(given, dict) else {}
    for end in ("from", "to"):
        if not isinstance(ends.get(end), str | int):
            raise field_invalid(f"{field}.{end}", "must be set")
    return {
        "from": str(given["from"]),
        "to": str(given["to"]),
        "label": given.get("label"),
        "weight": _weight(given.get("weight"), field),
        "data": given.get("data"),
    }


def _weight(given: Any, field: str) -> float | None:
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return given
    raise field_invalid(f"{field}.weight", "must be a number")


def _check(nodes: list[dict[str, Any]], edges: list[dict[str, Any]], field: str) -> None:
    ids = {node["id"] for node in nodes}
    if len(ids) != len(nodes):
        raise field_invalid(f"{field}.nodes", "must not have two nodes of one id")
    for at, edge in enumerate(edges):
        for end in ("from", "to"):
            if edge[end] not in ids:
                raise field_invalid(
                    f"{field}.edges[{at}].{end}", f"names {edge[end][:100]!r}, which is no node"
                )


def with_node(graph: Graph, node: dict[str, Any]) -> Graph:
    """The graph with one node more.

    Raises:
        ToolError: FIELD_INVALID where there is one of this id, LIMIT_EXCEEDED.
    """
    if any(known["id"] == node["id"] for known in graph["nodes"]):
        raise field_invalid("node_id", f"must be new; there is a node {node['id'][:100]!r}")
    if len(graph["nodes"]) >= NODES_MAX:
        raise limit_exceeded("nodes", NODES_MAX + 1, NODES_MAX)
    return _changed({**graph, "nodes": [*graph["nodes"], node]})


def with_edge(graph: Graph, edge: dict[str, Any]) -> Graph:
    """The graph with one edge more.

    Raises:
        ToolError: FIELD_INVALID where an end is no node, LIMIT_EXCEEDED.
    """
    ids = {node["id"] for node in graph["nodes"]}
    for end in ("from", "to"):
        if edge[end] not in ids:
            raise field_invalid(end, f"must be a node; {edge[end][:100]!r} is none")
    if len(graph["edges"]) >= EDGES_MAX:
        raise limit_exceeded("edges", EDGES_MAX + 1, EDGES_MAX)
    return _changed({**graph, "edges": [*graph["edges"], edge]})


def _changed(graph: Graph) -> Graph:
    return _counted({**graph, "metadata": {**graph["metadata"], "last_modified": _now()}})


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Who can be reached from whom, and at what cost."""

    out: dict[str, dict[str, float]]
    """The cheapest edge to each; for undirected graphs both ways."""
    back: dict[str, dict[str, float]]
    """The other way round."""


def neighbours(graph: Graph) -> Neighbours:
    """Of each node."""
    found = Neighbours(
        {node["id"]: {} for node in graph["nodes"]}, {node["id"]: {} for node in graph["nodes"]}
    )
    for edge in graph["edges"]:
        weight = 1.0 if edge["weight"] is None else float(edge["weight"])
        ways = [(edge["from"], edge["to"])]
        if graph["graph_type"] == "undirected":
            ways.append((edge["to"], edge["from"]))
        for start, end in ways:
            found.out[start][end] = min(weight, found.out[start].get(end, weight))
            found.back[end][start] = min(weight, found.back[end].get(start, weight))
    return found


def analyzed(graph: Graph) -> dict[str, Any]:
    """Counts, degrees, density, components and cycles."""
    around = neighbours(graph)
    directed = graph["graph_type"] == "directed"
    nodes, edges = [node["id"] for node in graph["nodes"]], graph["edges"]
    degrees = _degrees(nodes, edges)
    loops = [edge for edge in edges if edge["from"] == edge["to"]]
    pairs = sum(len(ends.keys() - {start}) for start, ends in around.out.items())
    possible = len(nodes) * (len(nodes) - 1)
    components = _components(nodes, around)
    return {
        "node_count": len(nodes),
        "edge_count": len(edges),
        "graph_type": graph["graph_type"],
        "density": pairs / possible if possible else 0.0,
        "degree_statistics": {
            "max_degree": max(degrees.values(), default=0),
            "min_degree": min(degrees.values(), default=0),
            "average_degree": sum(degrees.values()) / len(nodes) if nodes else 0.0,
        },
        "properties": {
            "is_empty": not nodes,
            "is_complete": bool(possible) and pairs == possible,
            "has_self_loops": bool(loops),
            "is_connected": len(components) == 1,
            "has_cycles": _has_cycle(nodes, edges, around, directed=directed),
        },
        "component_count": len(components),
        "largest_component": max(map(len, components), default=0),
        "node_ids": nodes,
        "note": "Degrees count edges at both ends. Density is of pairs that an edge joins. "
        "Components of a directed graph are those without regard to direction.",
    }


def _degrees(nodes: Iterable[str], edges: list[dict[str, Any]]) -> dict[str, int]:
    degrees = dict.fromkeys(nodes, 0)
    for edge in edges:
        degrees[edge["from"]] += 1
        degrees[edge["to"]] += 1
    return degrees


def _components(nodes: list[str], around: Neighbours) -> list[set[str]]:
    left = set(nodes)
    components = []
    while left:
        start = left.pop()
        component, waiting = {start}, [start]
        while waiting:
            node = waiting.pop()
            for other in (*around.out[node], *around.back[node]):
                if other not in component:
                    component.add(other)
                    waiting.append(other)
        left -= component
        components.append(component)
    return components


def _has_cycle(
    nodes: list[str], edges: list[dict[str, Any]], around: Neighbours, *, directed: bool
) -> bool:
    if not directed:
        # A forest has as many edges as nodes without components.
        return len(edges) > len(nodes) - len(_components(nodes, around))
    left = {node: len(around.back[node]) for node in nodes}
    free = deque(node for node, count in left.items() if not count)
    taken = 0
    while free:
        taken += 1
        for other in around.out[free.popleft()]:
            left[other] -= 1
            if not left[other]:
                free.append(other)
    return taken < len(nodes)


def shortest_path(graph: Graph, start: str, end: str) -> dict[str, Any]:
    """The cheapest way by weights, 1 where an edge has none.

    Raises:
        ToolError: FIELD_INVALID for a negative weight, or where an end is no node.
    """
    around = neighbours(graph).out
    for name, node in (("from", start), ("to", end)):
        if node not in around:
            raise field_invalid(name, f"must be a node; {node[:100]!r} is none")
    if any(weight < 0 for ends in around.values() for weight in ends.values()):
        raise field_invalid("graph", "must have no negative weight for this")
    before: dict[str, str] = {}
    costs = {start: 0.0}
    waiting = [(0.0, start)]
    while waiting:
        cost, node = heapq.heappop(waiting)
        if node == end:
            return {"found": True, "path": _way(before, start, end), "cost": cost}
        if cost > costs[node]:
            continue
        for other, weight in around[node].items():
            if cost + weight < costs.get(other, float("inf")):
                costs[other], before[other] = cost + weight, node
                heapq.heappush(waiting, (cost + weight, other))
    return {"found": False, "path": [], "cost": None}


def _way(before: dict[str, str], start: str, end: str) -> list[str]:
    way = [end]
    while way[-1] != start:
        way.append(before[way[-1]])
    return way[::-1]
