"""Runs of the asyncio client; `_blocking_runs` says more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable

from llmspell import _runs
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncRunCalls(AsyncCaller):
    """Runs of which a journal is kept."""

    async def get_run(self, run_id: str) -> t.Run:
        """What is known of a run; NotFound where no journal of it is kept."""
        return await self._unary(_runs.get(run_id))

    def list_runs(
        self, *, session: str = "", statuses: Iterable[t.RunStatus] = ()
    ) -> AsyncIterator[t.Run]:
        """Runs, the newest first; pages come as they are needed.

        Args:
            session: Only those of this session.
            statuses: Only those that are so.
        """
        return self._entries(_runs.list_runs(session, statuses))

    def list_run_calls(
        self, run_id: str, *, first_number: int = 1, content: bool = False
    ) -> AsyncIterator[t.RunCall]:
        """The calls of a run in their order; pages come as they are needed.

        Args:
            run_id: Which run.
            first_number: Begin with this call.
            content: Whether with what was asked and answered.
        """
        return self._entries(_runs.list_calls(run_id, first_number, content=content))

    async def cancel_run(self, run_id: str) -> bool:
        """End a run that goes on; whether it did."""
        return await self._unary(_runs.cancel(run_id))

    async def delete_run(self, run_id: str) -> int:
        """Erase a run's journal; 1 where it was there."""
        return await self._unary(_runs.delete(run_id))

    def replay_run(
        self,
        run_id: str,
        *,
        mode: t.ReplayMode = "exact",
        modifications: Iterable[t.Modification] = (),
        stop_at_call: int = 0,
    ) -> AsyncGenerator[t.RunStarted | t.RunOutput | t.ReplayReport, None]:
        """Make a run again from its journal; what it prints, `ReplayReport` last.

        Args:
            run_id: Which run.
            mode: See `docs/guide/replay.md`.
            modifications: Answers to replace, for mode modified.
            stop_at_call: Where to stop, for mode debug.
        """
        return self._stream(_runs.replay(run_id, mode, modifications, stop_at_call))

    async def replay_session(
        self,
        session: str,
        *,
        mode: t.ReplayMode = "exact",
        modifications: Iterable[t.Modification] = (),
        stop_on_error: bool = False,
        replay_s: float | None = None,
    ) -> list[t.ReplayReport]:
        """Make all ended runs of a session again, the oldest first.

        Args:
            session: Which session.
            mode: Any but debug.
            modifications: Answers to replace in each run, for mode modified.
            stop_on_error: End with the first run that differs.
            replay_s: How long all may take; None: a minute.
        """
        call = _runs.replay_session(
            session, mode, modifications, stop_on_error=stop_on_error, timeout_s=replay_s
        )
        return await self._unary(call)

    def resume_run(self, run_id: str) -> AsyncGenerator[t.RunEvent, None]:
        """Go on with a run that was lost; its events from its beginning on, `RunResult` last.

        Raises:
            FailedPrecondition: RUN_NOT_RESUMABLE, RUN_DIVERGED, RUN_OUTCOME_UNKNOWN; as a run's.
        """
        return self._stream(_runs.resume(run_id))
