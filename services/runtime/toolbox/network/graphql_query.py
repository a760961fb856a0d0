"""graphql-query: queries, mutations and introspection over HTTP."""

from __future__ import annotations

import re
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Failure,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    failed,
    field_invalid,
    field_required,
    not_implemented,
    parameters,
)
from services.runtime.toolbox.network import calling, url
from services.runtime.toolbox.network.decoding import as_text
from services.runtime.toolbox.network.http import Http, Request

BODY_BYTES_MAX = 4 * MIB
_KINDS = frozenset({"query", "mutation", "subscription"})
_TOKEN = re.compile(r'"""(?:\\"""|(?!""").)*"""|"(?:\\.|[^"\\\n])*"|#[^\n]*|\w+|[{}()]', re.DOTALL)
_TYPE = "kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name}}}}"
INTROSPECTION = (
    "query Introspection{__schema{queryType{name}mutationType{name}subscriptionType{name}"
    "types{kind name description fields(includeDeprecated:true){name description "
    f"args{{name description defaultValue type{{{_TYPE}}}}}type{{{_TYPE}}}isDeprecated "
    f"deprecationReason}}inputFields{{name description defaultValue type{{{_TYPE}}}}}"
    "interfaces{name}enumValues(includeDeprecated:true){name description isDeprecated "
    "deprecationReason}possibleTypes{name}}directives{name description locations "
    f"args{{name description defaultValue type{{{_TYPE}}}}}}}}}}}"
)


def kinds_of(document: str) -> set[str]:
    """Which operations a document has; one without a keyword is a query."""
    depth, begins, found = 0, True, set()
    for match in _TOKEN.finditer(document):
        word = match[0]
        if word[0] in '"#':
            continue
        if word in "{(":
            if depth == 0 and begins and word == "{":
                found.add("query")
            depth += 1
        elif word in "})":
            depth -= 1
            begins = depth == 0 and word == "}"
            continue
        elif depth == 0 and begins and word in _KINDS:
            found.add(word)
        begins = False
    return found


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    if operation == "subscription":
        raise not_implemented("graphql-query has no subscriptions: an execution answers once.")
    asked = _document(arguments, operation)
    endpoint = url.parse(arguments["endpoint"], "endpoint")
    headers = {"Accept": "application/graphql-response+json, application/json;q=0.9"}
    headers |= url.checked_headers(arguments["headers"])
    headers["Content-Type"] = "application/json"
    http = Http(desk, timeout_s=arguments["timeout"], body_bytes=BODY_BYTES_MAX)
    body = calling.to_json(asked, "variables")
    response = http.send(Request(url=endpoint, method="POST", headers=headers, body=body))
    told, is_json = calling.as_json(as_text(response.body, response.content_type))
    if not is_json or not isinstance(told, dict) or not told.keys() & {"data", "errors"}:
        raise failed(
            f"{endpoint} does not answer as GraphQL does: {response.status} {response.reason}.",
            status_code=response.status,
        )
    return _outcome(operation, str(endpoint), told)


def _document(arguments: Arguments, operation: str) -> dict[str, Any]:
    if operation == "introspection":
        return {"query": INTROSPECTION}
    if "input" not in arguments:
        raise field_required("input")
    others = kinds_of(arguments["input"]) - {operation}
    if others:
        raise field_invalid("input", f"must hold no {min(others)}: the operation is {operation}")
    asked: dict[str, Any] = {"query": arguments["input"], "variables": arguments["variables"]}
    if "operation_name" in arguments:
        asked["operationName"] = arguments["operation_name"]
    return asked


def _outcome(operation: str, endpoint: str, told: dict[str, Any]) -> Outcome:
    errors = told.get("errors")
    failure = None
    if errors and told.get("data") is None:
        failure = Failure(message=_first(errors), code="graphql_errors", details={"errors": errors})
    result: dict[str, Any] = {"operation": operation, "endpoint": endpoint}
    if operation == "introspection":
        data = told.get("data") or {}
        result |= {"schema": data.get("__schema"), "cached": False}
    else:
        result["result"] = {name: told[name] for name in ("data", "errors") if name in told}
    return Outcome(
        operation=operation,
        result=result,
        message=f"{operation} at {endpoint}",
        failure=failure,
    )


def _first(errors: Any) -> str:
    first = errors[0] if isinstance(errors, list) else errors
    text = first.get("message") if isinstance(first, dict) else first
    return str(text)[:500]


TOOLS = (
    Tool(
        name="graphql-query",
        description="Asks a GraphQL server: queries, mutations, introspection.",
        category="api",
        level=Level.PRIVILEGED,
        needs=frozenset({Need.NETWORK}),
        synonyms={"query": "input", "url": "endpoint"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("endpoint",),
            operation={
                "enum": ["query", "mutation", "subscription", "introspection"],
                "default": "query",
                "description": "What is asked; `subscription` is not offered.",
            },
            endpoint={**calling.URL, "description": "Address of the server."},
            input={"type": "string", "description": "The document in GraphQL's language."},
            variables={"type": "object", "default": {}, "description": "Values of its variables."},
            operation_name={
                "type": "string",
                "description": "Which operation, where the document has several.",
            },
            headers=calling.HEADERS,
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "operation": {"description": "What was asked.", "type": "string"},
                "endpoint": {"description": "The server that answered.", "type": "string"},
                "result": {
                    "description": "The answer: `data`, `errors`.",
                    "type": "object",
                    "properties": {"data": {}, "errors": {"type": "array"}},
                },
                "schema": {
                    "description": "Of introspection: the schema.",
                    "type": ["object", "null"],
                },
                "cached": {"description": "Always false: nothing is kept.", "type": "boolean"},
            },
            "required": ["operation", "endpoint"],
        },
        notes="Values go in `variables`, never into the text. `success` is false where the server "
        "answers errors and no data. A document of another kind than `operation` is refused.",
        run=_run,
    ),
)
