"""The blocking client: sends what the pure modules build, and hands back what they read."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime

from llmspell import _interact, _scripts, _tenants
from llmspell import types as t
from llmspell._blocking_agents import AgentCalls
from llmspell._blocking_artifacts import ArtifactCalls
from llmspell._blocking_audit import AuditCalls
from llmspell._blocking_backups import BackupCalls
from llmspell._blocking_events import EventCalls
from llmspell._blocking_identity import IdentityCalls
from llmspell._blocking_journals import JournalCalls
from llmspell._blocking_migrations import MigrationCalls
from llmspell._blocking_policies import PolicyCalls
from llmspell._blocking_providers import ProviderCalls
from llmspell._blocking_runs import RunCalls
from llmspell._blocking_sessions import SessionCalls
from llmspell._blocking_state import StateCalls
from llmspell._blocking_templates import TemplateCalls
from llmspell._blocking_tenants import TenantCalls
from llmspell._blocking_tools import ToolCalls
from llmspell._blocking_usage import UsageCalls
from llmspell._blocking_vault import VaultCalls
from llmspell._blocking_vectors import VectorCalls
from llmspell._blocking_workflows import WorkflowCalls


class Client(
    AgentCalls,
    ArtifactCalls,
    AuditCalls,
    BackupCalls,
    EventCalls,
    IdentityCalls,
    JournalCalls,
    RunCalls,
    SessionCalls,
    MigrationCalls,
    StateCalls,
    TenantCalls,
    ToolCalls,
    PolicyCalls,
    ProviderCalls,
    TemplateCalls,
    UsageCalls,
    VaultCalls,
    VectorCalls,
    WorkflowCalls,
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
        journal: bool | None = None,
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
            journal: Whether what it observes is kept, so that it can be made again or gone on
                with; None: where there is a session.

        Raises:
            InvalidArgument: SCRIPT_SYNTAX, with `name` and `line` in its metadata.
            FailedPrecondition: SCRIPT_FAILED, likewise.
            ResourceExhausted: RUN_MEMORY_LIMIT, RUN_CPU_LIMIT, RUN_OUTPUT_LIMIT, RUN_CALL_LIMIT.
            DeadlineExceeded: RUN_TIME_LIMIT.
        """
        call = _scripts.run(
            source,
            name=name,
            args=args,
            named=named,
            limits=limits,
            session=session,
            journal=journal,
        )
        return self._stream(call)

    def interact(
        self,
        inputs: t.InteractInputs,
        *,
        name: str = "",
        args: Iterable[str] = (),
        named: Mapping[str, str] | None = None,
        session: str = "",
    ) -> Generator[t.InteractEvent, None, None]:
        """Run Lua piece by piece in one worker; what a piece leaves is there for the next.

        One `InteractAnswer` for each input that asks for one, in order, and before it what the
        piece printed. It lasts while inputs may come: give `alive` at least every half minute.

        Args:
            inputs: What to do.
            name: What messages call it.
            args: Read in the script as `ARGS[1]`, ….
            named: Read as `ARGS.name`.
            session: Id of the session that is the run's current one.
        """
        start = _interact.start(name, args, named, session)
        for event in self._exchange(_interact.interact(start, inputs)):
            if event is not None:
                yield event

    def check(self, source: str, *, name: str = "") -> None:
        """Compile a script without running it; InvalidArgument where it does not compile."""
        self._unary(_scripts.check(source, name))

    # Tenants and processes.

    def create_key(
        self,
        tenant_id: str,
        *,
        roles: Iterable[str] = (),
        display_name: str = "",
        row_filter: t.Filter | None = None,
        scopes: Iterable[str] = (),
        expire_time: datetime | None = None,
    ) -> t.CreatedKey:
        """Make a key with the roles `reader`, `writer` or `admin` (none given).

        Records of vectors and documents that `row_filter` does not let through do not exist for it.
        Of what its roles give it has only `scopes`, where there are any. From `expire_time` on it
        is refused.
        """
        call = _tenants.create_key(
            tenant_id, roles, display_name, row_filter, scopes=scopes, expire_time=expire_time
        )
        return self._unary(call)

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

    def metrics(self) -> dict[str, str]:
        """What each process counts and measures, in Prometheus's text format; empty: it is away."""
        return self._unary(_tenants.metrics())
