"""Journals of all tenants, over any engine: the calls of a session, numbered from 1 without a gap.

Adding is one transaction however many calls there are. What stands in a journal is never changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from services.common.errors import (
    Reason,
    ServiceError,
    field_invalid,
    limit_exceeded,
    required,
)
from services.common.expiry import SLICE
from services.common.limits import (
    EVENT_TEXT_BYTES_MAX,
    EVENTS_PAGE_BYTES,
    JOURNAL_BATCH_BYTES_MAX,
    JOURNAL_BATCH_MAX,
    JOURNAL_METHOD_BYTES_MAX,
)
from services.common.run_entries import RUN_BEGIN, RUN_END, RUN_PREFIX, RUN_RESUME, run_owner
from services.common.scopes import parse_scope
from services.common.view import View
from services.state import rules
from services.state.journal_model import Entry, Journal, JournalPage
from services.state.layout import JOURNAL, JOURNALS, tenant_prefix
from services.state.layout import journals as layout
from services.state.session_step import stored_session
from services.state.step import Keeper, Step
from services.state.tallies import Tally

_RUNS_LOOKED_MAX = 5_000
"""Journals that one page of runs looks at."""
_ORPHAN_NS = 600 * 10**9
"""How long the journal of a run is let be whose session is gone: the run may go on still."""


class Journals:
    """The calls of sessions."""

    def __init__(self, keeper: Keeper, *, slice_size: int = SLICE) -> None:
        """`slice_size`: records that one step of a removal takes."""
        self._keeper = keeper
        self._slice_size = slice_size
        self._swept = b""

    async def append(self, tenant: str, session: str, entries: Sequence[Entry]) -> Journal:
        """Add calls at the end, all or none; what stands there already is left as it is.

        Raises:
            ServiceError: REVISION_MISMATCH where calls before these are missing, or others stand in
                their place; FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED, TENANT_LIMIT_REACHED.
        """
        check_session(tenant, session)
        _check_entries(entries)
        rows = [(layout.entry_key(tenant, session, each.sequence), each) for each in entries]
        packed = [(place, layout.pack_entry(each)) for place, each in rows]

        def operation(step: Step) -> Journal:
            journal = journal_of(step.txn, tenant, session)
            if entries[0].sequence > journal.count + 1:
                raise _conflict(session, journal.count + 1)
            new = []
            for (place, stored), entry in zip(packed, entries, strict=True):
                if entry.sequence > journal.count:
                    step.txn.put(JOURNAL, place, stored)
                    new.append(entry)
                elif step.txn.get(JOURNAL, place) != stored:
                    raise _conflict(session, journal.count + 1)
            if new:
                step.take_revision(tenant)
                step.take_room(tenant, Tally.JOURNAL_BYTES, sum(each.size for each in new))
                journal = grown(journal, new)
                place = layout.journal_key(tenant, session)
                step.txn.put(JOURNALS, place, layout.pack_journal(journal))
            return journal

        return await self._keeper.step(operation, grows=True)

    async def get(self, tenant: str, session: str) -> Journal:
        """What is known of a journal; an empty one where nobody wrote to it."""
        check_session(tenant, session)
        with self._keeper.engine.read() as view:
            return journal_of(view, tenant, session)

    async def read(
        self,
        tenant: str,
        session: str,
        first: int,
        last: int,
        *,
        limit: int = JOURNAL_BATCH_MAX,
        size_max: int = EVENTS_PAGE_BYTES,
    ) -> list[Entry]:
        """Calls from one on, up to `limit` or so many bytes, and one at least; none past `last`."""
        check_session(tenant, session)
        entries: list[Entry] = []
        size = 0
        start = layout.entry_key(tenant, session, first)
        stop = layout.entry_key(tenant, session, last + 1)
        with self._keeper.engine.read() as view:
            for _, stored in view.between(JOURNAL, start, stop):
                entry = layout.unpack_entry(stored)
                # One call may fill a message alone; never two.
                if entries and size + entry.size > size_max:
                    break
                entries.append(entry)
                size += entry.size
                if len(entries) == limit:
                    break
        return entries

    async def list(self, tenant: str, *, after: str, limit: int) -> JournalPage:
        """Journals of a tenant in order of session."""
        rules.check_place(tenant, "global")
        most = rules.page_limit(limit)
        behind = layout.journal_key(tenant, after) if after else b""
        with self._keeper.engine.read() as view:
            rows = view.scan(JOURNALS, tenant_prefix(tenant), after=behind)
            journals = (layout.unpack_journal(stored) for _, stored in rows)
            sessions = (each for each in journals if not each.run_begin)
            found = list(itertools.islice(sessions, most + 1))
        more = len(found) > most
        return JournalPage(found[:most], found[most - 1].session if more else None)

    async def list_runs(self, tenant: str, *, session: str, before: str, limit: int) -> JournalPage:
        """Journals of a tenant's runs, the newest first, of one session or all; `before` one."""
        rules.check_place(tenant, "global")
        most = rules.page_limit(limit)
        now_ns = self._keeper.time.now_ns()
        with self._keeper.engine.read() as view:
            found: list[Journal] = []
            last = None
            for looked, journal in enumerate(_runs_back(view, tenant, before)):
                if len(found) == most or looked == _RUNS_LOOKED_MAX:
                    return JournalPage(found, last)
                last = journal.session
                is_over = 0 < journal.expire_ns <= now_ns
                if journal.run_begin and session in {"", journal.owner} and not is_over:
                    found.append(journal)
        return JournalPage(found, None)

    async def delete(self, tenant: str, session: str) -> int:
        """Erase a journal; how many calls it had. From the end on, so that it never has a gap."""
        check_session(tenant, session)
        deleted = 0
        while removed := await self._keeper.step(
            lambda step: _shorten(step, tenant, session, self._slice_size)
        ):
            deleted += removed
        return deleted

    async def delete_scope(self, tenant: str, scope: str) -> int:
        """Erase the journal of a session and those of its runs; how many calls they had."""
        session = parse_scope(scope).name
        deleted = await self.delete(tenant, session)
        with self._keeper.engine.read() as view:
            runs = [each.session for each in _runs_back(view, tenant) if each.owner == session]
        for run in runs:
            deleted += await self.delete(tenant, run)
        return deleted

    async def sweep(self, limit: int = SLICE) -> int:
        """Let go of runs' journals whose time is over, or whose session is gone.

        Looks at the next `limit` journals of all tenants, so that each is met again and again.
        """
        with self._keeper.engine.read() as view:
            places = list(itertools.islice(view.keys(JOURNALS, b"", after=self._swept), limit))
            doomed = [place for place in places if self._is_over(view, place)]
        self._swept = places[-1] if len(places) == limit else b""
        for place in doomed:
            tenant, _, run = place.partition(b"\0")
            await self.delete(tenant.decode(), run.decode())
        return 0

    def _is_over(self, view: View, place: bytes) -> bool:
        now_ns = self._keeper.time.now_ns()
        with suppress(ServiceError):  # a damaged one stays
            stored = view.get(JOURNALS, place)
            journal = Journal("") if stored is None else layout.unpack_journal(stored)
            if journal.owner and journal.last_ns + _ORPHAN_NS < now_ns:
                tenant = place.partition(b"\0")[0].decode()
                return stored_session(view, tenant, journal.owner) is None
            return 0 < journal.expire_ns <= now_ns
        return False

    async def purge(self, tenant: str) -> None:
        """Erase all journals of a tenant."""
        for database in (JOURNALS, JOURNAL):
            erase = partial(_erase, database=database, tenant=tenant, limit=self._slice_size)
            await self._keeper.repeat(erase)
        self._keeper.tallies.forget(tenant)


def _runs_back(view: View, tenant: str, before: str = "") -> Iterator[Journal]:
    """Journals of runs, the newest first: their ids begin with the time."""
    prefix = layout.journal_key(tenant, RUN_PREFIX)
    stop = layout.journal_key(tenant, before) if before else b""
    for place, stored in view.back(JOURNALS, prefix, before=stop):
        del place
        yield layout.unpack_journal(stored)


def journal_of(view: View, tenant: str, session: str) -> Journal:
    """What is known of a journal."""
    stored = view.get(JOURNALS, layout.journal_key(tenant, session))
    return Journal(session) if stored is None else layout.unpack_journal(stored)


def grown(journal: Journal, new: Sequence[Entry]) -> Journal:
    """A journal with more calls."""
    first = new[0]
    run_end = journal.run_end
    for entry in new:
        if entry.method == RUN_END:
            run_end = entry.request
        elif entry.method == RUN_RESUME:
            run_end = b""
    is_run = not journal.count and first.method == RUN_BEGIN
    owner, expire_ns = run_owner(first.request) if is_run else (journal.owner, journal.expire_ns)
    return Journal(
        run_begin=first.request if is_run else journal.run_begin,
        run_end=run_end,
        owner=owner,
        expire_ns=expire_ns,
        session=journal.session,
        count=journal.count + len(new),
        size=journal.size + sum(each.size for each in new),
        first_ns=journal.first_ns if journal.count else first.start_ns,
        last_ns=new[-1].start_ns,
        duration_ns=journal.duration_ns + sum(each.end_ns - each.start_ns for each in new),
        correlation_id=journal.correlation_id if journal.count else first.correlation_id,
    )


def _shorten(step: Step, tenant: str, session: str, limit: int) -> int:
    """Remove up to `limit` calls from the end; how many."""
    prefix = layout.entries_prefix(tenant, session)
    journal = journal_of(step.txn, tenant, session)
    if not journal.count:
        return 0
    first = max(1, journal.count - limit + 1)
    step.take_revision(tenant)
    step.give_room(tenant, Tally.JOURNAL_BYTES, journal.size)  # what is left counts nothing
    for sequence in range(first, journal.count + 1):
        step.txn.delete(JOURNAL, layout.entry_key(tenant, session, sequence))
    place = layout.journal_key(tenant, session)
    if first == 1:
        step.txn.delete(JOURNALS, place)
        step.txn.delete_prefix(JOURNAL, prefix)
    else:
        left = msgspec.structs.replace(
            Journal(session=session),
            count=first - 1,
            owner=journal.owner,
            run_begin=journal.run_begin,
        )
        step.txn.put(JOURNALS, place, layout.pack_journal(left))
    return journal.count - first + 1


def _erase(step: Step, database: str, tenant: str, limit: int) -> bool:
    places: Iterator[bytes] = step.txn.keys(database, tenant_prefix(tenant))
    doomed = list(itertools.islice(places, limit))
    for place in doomed:
        step.txn.delete(database, place)
    if doomed:
        step.take_revision(tenant)
    return len(doomed) == limit


def check_session(tenant: str, session: str) -> None:
    """Refuse a session that no journal can be of.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if not session:
        raise required("session_id")
    try:
        parse_scope(f"session:{session}")
    except ServiceError:
        raise field_invalid("session_id", "must be up to 96 letters, digits, '_' and '-'") from None
    rules.check_place(tenant, f"session:{session}")


def _check_entries(entries: Sequence[Entry]) -> None:
    if not entries:
        raise required("entries")
    if len(entries) > JOURNAL_BATCH_MAX:
        raise limit_exceeded("entries", len(entries), JOURNAL_BATCH_MAX)
    size = sum(each.size for each in entries)
    if size > JOURNAL_BATCH_BYTES_MAX:
        raise limit_exceeded("entries", size, JOURNAL_BATCH_BYTES_MAX, "bytes")
    for number, entry in enumerate(entries):
        if entry.sequence != entries[0].sequence + number or entry.sequence < 1:
            raise field_invalid(
                f"entries[{number}].sequence", "must follow the one before, the first from 1"
            )
        check_entry(entry, f"entries[{number}].")


def check_entry(entry: Entry, place: str) -> None:
    """Refuse a call that cannot be kept; `place` stands before the names of fields.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if not entry.method:
        raise required(f"{place}method")
    _check_length(entry.method, f"{place}method", JOURNAL_METHOD_BYTES_MAX)
    _check_length(entry.correlation_id, f"{place}correlation_id", EVENT_TEXT_BYTES_MAX)
    if entry.end_ns < entry.start_ns:
        raise field_invalid(f"{place}end_time", "must not be before start_time")


def _check_length(text: str, field: str, bytes_max: int) -> None:
    size = len(text.encode())
    if size > bytes_max:
        raise limit_exceeded(field, size, bytes_max, "bytes")


def _conflict(session: str, following: int) -> ServiceError:
    return ServiceError(
        Reason.REVISION_MISMATCH,
        f"The journal of session {session} goes on with call {following}; these do not, and "
        "are not what stands there.",
        key=session,
        revision=following,
    )
