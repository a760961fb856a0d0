"""The workflows that a tenant has registered."""

from __future__ import annotations

import difflib
import unicodedata

from llmspell.v1 import workflow_pb2

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.runtime.workflows.model import Workflow
from services.runtime.workflows.reading import read_workflow
from services.runtime.workflows.records import RegisteredRecord
from services.runtime.workflows.shelf import WORKFLOWS_SCOPE, Entry, Shelf, absent

_NEAR_PAGE = 200


class RegisteredWorkflows:
    """Keeps them, for each tenant."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    async def create(
        self, tenant: str, message: workflow_pb2.Workflow, *, replace: bool, request_id: str
    ) -> RegisteredRecord:
        """Keep one.

        Raises:
            ServiceError: WORKFLOW_EXISTS where one has the name and is not to be replaced.
        """
        name = unicodedata.normalize("NFC", message.name)
        known, _ = await self._shelf.read(tenant, WORKFLOWS_SCOPE, name, RegisteredRecord)
        now_ns = self._clock.now_ns()
        data = message.SerializeToString(deterministic=True)
        if known is not None and not replace:
            if request_id and known.workflow == data:
                return known  # the same request once more
            raise _exists(name)
        record = RegisteredRecord(data, known.create_ns if known else now_ns, now_ns)
        entry = Entry(WORKFLOWS_SCOPE, name, record, keeps_s=None)
        checks = [] if replace else [absent(WORKFLOWS_SCOPE, name)]
        try:
            await self._shelf.write(tenant, [entry], checks=checks)
        except ServiceError as error:
            if error.reason == Reason.REVISION_MISMATCH:
                raise _exists(name) from None
            raise
        return record

    async def get(self, tenant: str, name: str) -> RegisteredRecord:
        """One by name.

        Raises:
            ServiceError: WORKFLOW_NOT_FOUND, with the nearest name.
        """
        record = None
        if name and name.isprintable() and "/" not in name:
            key = unicodedata.normalize("NFC", name)
            record, _ = await self._shelf.read(tenant, WORKFLOWS_SCOPE, key, RegisteredRecord)
        if record is None:
            raise await self._not_found(tenant, name)
        return record

    async def page(self, tenant: str, size: int, token: str) -> tuple[list[RegisteredRecord], str]:
        """A page in order of name, and the token of the next."""
        page, following = await self._shelf.page(
            tenant, WORKFLOWS_SCOPE, lambda _: RegisteredRecord, size=size, token=token
        )
        return [found.record for found in page], following

    async def delete(self, tenant: str, name: str) -> bool:
        """Remove one; whether it was there."""
        try:
            await self.get(tenant, name)
        except ServiceError as error:
            if error.reason == Reason.WORKFLOW_NOT_FOUND:
                return False
            raise
        key = unicodedata.normalize("NFC", name)
        await self._shelf.write(tenant, [Entry(WORKFLOWS_SCOPE, key)])
        return True

    async def _not_found(self, tenant: str, name: str) -> ServiceError:
        page, _ = await self.page(tenant, _NEAR_PAGE, "")
        names = [workflow_pb2.Workflow.FromString(record.workflow).name for record in page]
        near = difflib.get_close_matches(name[:100], names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return ServiceError(
            Reason.WORKFLOW_NOT_FOUND,
            f"There is no workflow {name[:100]!r}.{hint}",
            workflow=name[:100],
        )


class OfTenant:
    """The registered workflows of one tenant, each read once."""

    def __init__(self, all_of_them: RegisteredWorkflows, tenant: str) -> None:
        self._all = all_of_them
        self._tenant = tenant
        self._known: dict[str, Workflow] = {}

    async def workflow(self, name: str) -> Workflow:
        """One by name.

        Raises:
            ServiceError: WORKFLOW_NOT_FOUND.
        """
        if name not in self._known:
            record = await self._all.get(self._tenant, name)
            message = workflow_pb2.Workflow.FromString(record.workflow)
            self._known[name] = read_workflow(message)
        return self._known[name]


def _exists(name: str) -> ServiceError:
    return ServiceError(
        Reason.WORKFLOW_EXISTS,
        f"There is a workflow {name[:100]!r} already.",
        workflow=name[:100],
    )
