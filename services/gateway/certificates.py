"""Callers that are known by their certificate: which of its names speaks for which tenant."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.common.context import CallContext, is_tenant_id
from services.common.door import Metadata
from services.common.errors import Reason, ServiceError
from services.common.peers import PeerName, PeerUnseenError
from services.gateway.roles import ROLES, permissions_of

_NAME = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)


class CertificateIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A caller, as `gateway.tls_identities_file` has it."""

    name: str
    """Subject alternative name (URI or DNS), exactly."""
    tenant: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    """Permissions that it is narrowed to; none: all that the roles give."""


class Certificates:
    """Knows callers by the names of their certificates."""

    def __init__(self, identities: Sequence[CertificateIdentity]) -> None:
        self._by_name = {each.name: each for each in identities}

    def read(self, metadata: Metadata) -> CallContext:
        """The caller.

        Raises:
            PeerUnseenError: no certificate was looked at yet.
            ServiceError: CREDENTIAL_MISSING where none of its names is known, CREDENTIAL_INVALID
                where several callers are meant.
        """
        names = [value for _, value in metadata if isinstance(value, PeerName)]
        if not names:
            raise PeerUnseenError(Reason.CREDENTIAL_MISSING, _MISSING)
        found = [self._by_name[name] for name in dict.fromkeys(names) if name in self._by_name]
        if not found:
            raise ServiceError(Reason.CREDENTIAL_MISSING, _MISSING)
        if len(found) > 1:
            raise ServiceError(
                Reason.CREDENTIAL_INVALID, "The certificate names more than one caller."
            )
        return CallContext(
            tenant=found[0].tenant,
            principal=f"cert/{found[0].name}",
            permissions=permissions_of(found[0].roles, found[0].scopes),
            roles=found[0].roles,
        )


_MISSING = (
    "No API key was sent, and the certificate names no caller that is known here; put a key into "
    "metadata as `authorization: Bearer KEY`."
)


def open_certificates(file: str) -> Certificates | None:
    """The callers that a file names; None where there is no file.

    Raises:
        ServiceError: CONFIG_INVALID.
    """
    if not file:
        return None
    try:
        tables = tomllib.loads(Path(file).read_text("utf-8")).get("identities", [])
        identities = msgspec.convert(tables, tuple[CertificateIdentity, ...])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _bad_file(file, str(error)) from None
    for each in identities:
        if not _NAME.fullmatch(each.name) or not is_tenant_id(each.tenant):
            raise _bad_file(file, f"{each.name[:64]!r}: name or tenant is none")
        if not each.roles or set(each.roles) - set(ROLES):
            raise _bad_file(file, f"{each.name}: roles must be of {', '.join(ROLES)}")
    if len({each.name for each in identities}) < len(identities):
        raise _bad_file(file, "two identities have the same name")
    return Certificates(identities)


def _bad_file(file: str, why: str) -> ServiceError:
    return ServiceError(
        Reason.CONFIG_INVALID,
        f"The callers with certificates cannot be read from {file}: {why}.",
        key="gateway.tls_identities_file",
        file=file,
    )
