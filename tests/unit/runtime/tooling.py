"""A toolbox with real jailed processes, for tests of tools."""

import contextlib
import os
import pathlib

import jsonschema_rs
import pytest

from services.common.context import CallContext
from services.common.errors import ServiceError
from services.common.paging import PageTokens
from services.common.tenants import TenantRecord
from services.runtime.bridge import Bridge, own_methods
from services.runtime.pool import WorkerPool
from services.runtime.server import TOOL_SERVICE, TOOL_ZYGOTE
from services.runtime.servicers.tool import ToolServicer
from services.runtime.tools.folders import Folders
from services.runtime.tools.toolbox import NO_NETWORK, Toolbox
from services.runtime.worker.sandbox import NOBODY

ALL = ("tool.read", "tool.execute", "tool.restricted", "tool.privileged")


def caller(tenant="acme", permissions=ALL):
    """A caller with these permissions."""
    return CallContext(tenant=tenant, principal="key", permissions=permissions)


def tenant_folder(folder, tenant="acme"):
    """Where a tenant's files are, for a test that puts some there itself."""
    return pathlib.Path(Folders(folder).path(tenant))


def put(folder, name, data, tenant="acme"):
    """A file in a tenant's folder, as the tenant itself would have made it."""
    root = tenant_folder(folder, tenant)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if os.geteuid() == 0:
        for each in (path, *(root / above for above in path.relative_to(root).parents)):
            os.chown(each, NOBODY, NOBODY)
    return path


async def refusal(call):
    """The error that a call ends with."""
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


class Handing:
    """A network whose connections are what `connect` answers."""

    def __init__(self, connect):
        self.connect = connect

    def lines(self, tool, tenant):
        """Itself."""
        return contextlib.nullcontext(self)


class CheckedToolbox(Toolbox):
    """Holds each result against the schema that the tool promises."""

    async def execute(self, name, arguments, context, **more):
        """The outcome, where it is what was promised."""
        outcome = await super().execute(name, arguments, context, **more)
        if outcome.failure is None:
            entry = await self.find(name)
            promised = jsonschema_rs.validator_for(dict(entry.result))
            wrong = [error.message for error in promised.iter_errors(_as_json(outcome.result))]
            assert not wrong, f"{name} answered what its result schema does not allow: {wrong}"
        return outcome


def _as_json(value):
    """Bytes are text there."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    return value


@contextlib.asynccontextmanager
async def open_toolbox(
    folder,
    *,
    connect=None,
    network=None,
    settings=None,
    inner=(),
    zygote=TOOL_ZYGOTE,
    limits=None,
    receipts=None,
):
    """A toolbox whose tenants' folders are in `folder`; `settings`: by tool's name."""
    if network is None:
        network = Handing(connect) if connect else NO_NETWORK
    told = settings or {}
    async with WorkerPool(zygote=zygote) as pool:
        yield CheckedToolbox(
            pool,
            Folders(folder, limits),
            inner,
            network=network,
            settings=lambda tool, tenant: told.get(tool, {}),
            receipts=receipts,
        )


class _NoRelay:
    """Stands where the relay stands, for scripts that ask for tools only."""

    def routes(self, method):
        return False


class _AnyTenant:
    """Knows every tenant."""

    async def get(self, tenant_id):
        return TenantRecord(tenant_id, "", 0)


def tool_bridge(toolbox):
    """What answers a script's calls of tools."""
    servicer = ToolServicer(toolbox, PageTokens(bytes(32)))
    own = own_methods(TOOL_SERVICE, servicer)
    return Bridge(_NoRelay(), _AnyTenant(), caller(), timeout_s=60, own=own)
