"""The blocking client: sends what the pure modules build, and hands back what they read."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping

from llmspell import _scripts, _tenants
from llmspell import types as t
from llmspell._blocking_artifacts import ArtifactCalls
from llmspell._blocking_backups import BackupCalls
from llmspell._blocking_events import EventCalls
from llmspell._blocking_journals import JournalCalls
from llmspell._blocking_migrations import MigrationCalls
from llmspell._blocking_sessions import SessionCalls
from llmspell._blocking_state import StateCalls
from llmspell._blocking_vault import VaultCalls
from llmspell._blocking_vectors import VectorCalls


class Client(
    ArtifactCalls,
    BackupCalls,
    EventCalls,
    JournalCalls,
    SessionCalls,
    MigrationCalls,
    StateCalls,
    VaultCalls,
    VectorCalls,
):
    """A connection to a gateway, as one caller. Safe to share between threads.

    Example:
        with Client("127.0.0.1:50060", "llms_…") as client:
            client.set_state("answer", 42)

    Every method raises a family of `llmspell.errors`: InvalidArgument where an argument is unfit,
    PermissionDenied and Unauthenticated where the key does not allow the call, Unavailable where
    nothing answers, DeadlineExceeded where it takes longer than `timeout_s`.
    """

    # Scripts.

    def run(
        self,
        source: str,
        *,
        name: str = "",
        args: Iterable[str] = (),
        named: Mapping[str, str] | None = None,
        limits: t.RunLimits | None = None,
        session: str = "",
    ) -> Generator[t.RunEvent, None, None]:
        """Run a script; its events as they happen, `RunResult` last.

        It begins with the first event that is taken. Closing the generator, or leaving its loop
        and dropping it, kills the run.

        Args:
            source: Lua 5.4.
            name: What messages call it.
            args: Read in the script as `ARGS[1]`, ….
            named: Read as `ARGS.name`.
            limits: Lower ones than the deployment's.
            session: Id of the session that is the run's current one.

        Raises:
            InvalidArgument: SCRIPT_SYNTAX, with `name` and `line` in its metadata.
            FailedPrecondition: SCRIPT_FAILED, likewise.
            ResourceExhausted: RUN_MEMORY_LIMIT, RUN_CPU_LIMIT, RUN_OUTPUT_LIMIT, RUN_CALL_LIMIT.
            DeadlineExceeded: RUN_TIME_LIMIT.
        """
        call = _scripts.run(
            source, name=name, args=args, named=named, limits=limits, session=session
        )
        return self._stream(call)

    def check(self, source: str, *, name: str = "") -> None:
        """Compile a script without running it; InvalidArgument where it does not compile."""
        self._unary(_scripts.check(source, name))

    # Tenants and processes.

    def create_tenant(
        self, tenant_id: str, *, display_name: str = "", isolation: t.Isolation = "namespace"
    ) -> t.Tenant:
        """Make a tenant; the operator's call, like all that follow on tenants and keys."""
        return self._unary(_tenants.create_tenant(tenant_id, display_name, isolation))

    def get_tenant(self, tenant_id: str) -> t.Tenant:
        """One tenant."""
        return self._unary(_tenants.get_tenant(tenant_id))

    def list_tenants(self) -> Iterator[t.Tenant]:
        """All tenants in order of id; pages come as they are needed."""
        return self._entries(_tenants.list_tenants())

    def delete_tenant(self, tenant_id: str) -> t.DeletedTenant:
        """Remove a tenant, its keys and everything it has stored."""
        return self._unary(_tenants.delete_tenant(tenant_id))

    def create_key(
        self,
        tenant_id: str,
        *,
        roles: Iterable[str] = (),
        display_name: str = "",
        row_filter: t.Filter | None = None,
    ) -> t.CreatedKey:
        """Make a key with the roles `reader`, `writer` or `admin` (none given).

        Records of vectors and documents that `row_filter` does not let through do not exist for it.
        """
        return self._unary(_tenants.create_key(tenant_id, roles, display_name, row_filter))

    def list_keys(self, tenant_id: str) -> Iterator[t.ApiKey]:
        """A tenant's keys without their secrets; pages come as they are needed."""
        return self._entries(_tenants.list_keys(tenant_id))

    def revoke_key(self, key_id: str) -> bool:
        """End a key; whether there was one."""
        return self._unary(_tenants.revoke_key(key_id))

    def who_am_i(self) -> t.Caller:
        """Who the server takes this client for, and what it may."""
        return self._unary(_tenants.who_am_i())

    def processes(self) -> list[t.ProcessStatus]:
        """The gateway and the processes behind it."""
        return self._unary(_tenants.processes())
