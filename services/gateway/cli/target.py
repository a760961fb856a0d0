"""Which server a command speaks to, as whom, and the options that commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from llmspell import Client

TIMEOUT_S = 30.0
"""Longer than a program would wait: a person can press Ctrl-C."""

TenantOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--tenant", metavar="ID", help="Act for this tenant, where the key may choose."),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ScopeOption: TypeAlias = Annotated[
    str, typer.Option("--scope", help="Scope, such as global or user:anna.")
]


@dataclass(frozen=True, slots=True)
class Target:
    """The options before the command; None: the environment, then the profile."""

    address: str | None = None
    api_key: str | None = None
    profile: Path | None = None
    ca: str | None = None
    """Authority of the gateway's certificate, or `system`."""
    certificate: Path | None = None
    key: Path | None = None


def connect(context: typer.Context, tenant: str | None = None) -> Client:
    """A client for the command's target."""
    from llmspell import Client  # noqa: PLC0415  (grpc is slow to import)

    target = context.find_object(Target) or Target()
    return Client(
        target.address,
        target.api_key,
        tenant=tenant,
        timeout_s=TIMEOUT_S,
        profile=target.profile,
        ca_file=target.ca,
        certificate_file=target.certificate,
        key_file=target.key,
    )
