"""`llmspell rpc`: any method of the server, by what its reflection says. No local contract."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from services.gateway.cli.output import show_json, show_line
from services.gateway.cli.target import JsonOption, Target, TenantOption

app = typer.Typer(no_args_is_help=True, help="Call any method of the server, by reflection.")

_OWN_PACKAGE = "llmspell.v1"


@dataclass(frozen=True, slots=True)
class _Session:
    """An open channel with what goes beside each call."""

    channel: Any
    metadata: tuple[tuple[str, str], ...]
    names: list[str]
    """Full names of the services."""
    pool: Any
    """Descriptors, fetched as they are asked for."""

    def methods(self) -> Iterator[Any]:
        """The descriptors of all methods."""
        for name in sorted(self.names):
            yield from self.pool.FindServiceByName(name).methods


@app.command("list")
def list_methods(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the methods of all services; `stream` stands where there may be many messages."""
    with _session(context, None) as session:
        rows = [_described(method) for method in session.methods()]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        request, response = row["request"], row["response"]
        request = f"stream {request}" if row["client_streaming"] else request
        response = f"stream {response}" if row["server_streaming"] else response
        show_line(f"{row['service']}/{row['method']}({request}) → {response}")


@app.command("call")
def call(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="Such as StateService/GetState.")],
    request: Annotated[str, typer.Argument(help="JSON; - reads stdin.")] = "{}",
    *,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Give up after this.")] = 60.0,
    tenant: TenantOption = None,
) -> None:
    """Call a method; the answer is JSON, a stream's answers are one JSON a line."""
    with _session(context, tenant) as session:
        descriptor = _find(session, method)
        message = _parse(descriptor, sys.stdin.read() if request == "-" else request, session.pool)
        if descriptor.server_streaming:
            for answer in _send(session, descriptor, message, timeout):
                line = json.dumps(_plain(answer, session.pool), ensure_ascii=False)
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
        else:
            show_json(_plain(_send(session, descriptor, message, timeout), session.pool))


@contextmanager
def _session(context: typer.Context, tenant: str | None) -> Iterator[_Session]:
    import grpc  # noqa: PLC0415  (slow to import, like all of these)
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: PLC0415
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # noqa: PLC0415
        ProtoReflectionDescriptorDatabase,
    )
    from llmspell.errors import from_rpc  # noqa: PLC0415

    connection = _connection(context, tenant)
    with _open_channel(connection) as channel:
        database = ProtoReflectionDescriptorDatabase(_known(channel, connection.metadata()))
        try:
            names = _service_names(database)
            yield _Session(channel, connection.metadata(), names, DescriptorPool(database))
        except grpc.RpcError as error:
            raise from_rpc(error, connection.address) from None


def _service_names(database: Any) -> list[str]:
    import grpc  # noqa: PLC0415  (slow to import)
    from llmspell.errors import Unimplemented  # noqa: PLC0415

    try:
        return list(database.get_services())
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            message = "The server does not describe its methods: its `reflection` setting is off."
            raise Unimplemented(message) from None
        raise


def _connection(context: typer.Context, tenant: str | None) -> Any:
    import os  # noqa: PLC0415

    from llmspell._channel import resolve  # noqa: PLC0415
    from llmspell._trust import given_trust  # noqa: PLC0415

    target = context.find_object(Target) or Target()
    return resolve(
        target.address,
        target.api_key,
        tenant=tenant,
        timeout_s=0,
        profile=target.profile,
        environment=os.environ,
        trust=given_trust(target.ca, target.certificate, target.key, os.environ),
    )


def _open_channel(connection: Any) -> Any:
    from llmspell._channel import open_channel  # noqa: PLC0415  (slow to import)

    return open_channel(connection)


def _known(channel: Any, metadata: Any) -> Any:
    """The channel for reflection, whose stub takes no metadata: who is calling goes with each."""
    import grpc  # noqa: PLC0415  (slow to import)

    class Caller(grpc.StreamStreamClientInterceptor):
        def intercept_stream_stream(self, go_on: Any, details: Any, requests: Any) -> Any:
            named = _Details(details.method, details.timeout, metadata)
            return go_on(named, requests)

    return grpc.intercept_channel(channel, Caller())


@dataclass(frozen=True, slots=True)
class _Details:
    """What grpc asks of a call's details."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any = None
    wait_for_ready: bool | None = None
    compression: Any = None


def _find(session: _Session, method: str) -> Any:
    """The method that is meant by `Service/Method`, `Service.Method`, with or without package."""
    service, _, name = method.strip("/").replace("/", ".").rpartition(".")
    for full_name in (service, f"{_OWN_PACKAGE}.{service}"):
        if full_name in session.names:
            found = session.pool.FindServiceByName(full_name).methods_by_name.get(name)
            if found is not None:
                return found
    raise _not_found(method)


def _parse(descriptor: Any, text: str, pool: Any) -> Any:
    from google.protobuf import json_format  # noqa: PLC0415  (slow to import)
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415
    from llmspell.errors import InvalidArgument, Unimplemented  # noqa: PLC0415

    if descriptor.client_streaming:
        raise Unimplemented("A method that takes a stream cannot be called from here.")
    if not text.lstrip().startswith("{"):
        raise InvalidArgument("The request must be a JSON object, such as {}.")
    try:
        return json_format.Parse(
            text, GetMessageClass(descriptor.input_type)(), descriptor_pool=pool
        )
    except (json_format.ParseError, RecursionError) as error:
        why = _reason(str(error))
        message = f"The request is not a valid {descriptor.input_type.name}: {why}."
        raise InvalidArgument(message) from None


def _reason(text: str) -> str:
    """Protobuf's words, but for those that are Python's."""
    first = text.partition("\n")[0].rstrip(".")
    if "object" in first and "'" in first:
        return "a field has a value of the wrong type; docs/reference/rpc.md has the types"
    return first


def _send(session: _Session, descriptor: Any, message: Any, timeout_s: float) -> Any:
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
    streams = descriptor.server_streaming
    kind = session.channel.unary_stream if streams else session.channel.unary_unary
    response = GetMessageClass(descriptor.output_type)
    send = kind(path, type(message).SerializeToString, response.FromString)
    return send(message, timeout=timeout_s, metadata=session.metadata)


def _plain(message: Any, pool: Any) -> Any:
    from google.protobuf import json_format  # noqa: PLC0415  (slow to import)

    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, descriptor_pool=pool
    )


def _described(method: Any) -> dict[str, Any]:
    return {
        "service": method.containing_service.full_name,
        "method": method.name,
        "request": method.input_type.name,
        "response": method.output_type.name,
        "client_streaming": method.client_streaming,
        "server_streaming": method.server_streaming,
    }


def _not_found(method: str) -> Any:
    from llmspell.errors import NotFound  # noqa: PLC0415  (slow to import)

    return NotFound(
        f"The server has no method {method!r}. `llmspell rpc list` shows the methods.",
        reason="NOT_IMPLEMENTED",
    )
