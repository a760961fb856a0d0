"""What came of tools' executions whose runtime was lost: files that their processes write.

A receipt is made and locked before its execution is ordered, and the lock is handed to the tool's
process with the file: the kernel holds it until that process is gone, whatever becomes of the
runtime. So whoever comes later learns one of four things: it goes on (locked), it never began
(missing or empty), what came of it (a whole note), or that nobody knows (its process was ended).

A receipt is on one machine, and what is not on its disk is lost with the machine's power. So its
name says where and since when its machine runs; only there does a missing one mean anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from services.common.clock import Clock
from services.common.context import is_tenant_id
from services.common.errors import ServiceError
from services.common.limits import FRAME_BYTES_MAX, TOOL_RECEIPT_SECONDS
from services.runtime.claims import Claim
from services.runtime.toolbox import receipt
from services.runtime.toolbox.receipt import UNDONE, Noted

log = logging.getLogger(__name__)

FOLDER = ".receipts"
"""Beside the tenants' folders; no tenant is called so."""
_STORE = "store"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LOOK_S = 0.02
"""How often a receipt is looked at whose execution goes on."""
_AGE_MARGIN_S = 3600.0
_SWEEP_S = 3600.0


class Slip:
    """A receipt for one execution, locked; whoever has the descriptor has the lock."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Let go of it here."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a receipt is."""

    machine: str
    name: str


class Receipts:
    """Of all tenants, on this machine since its start."""

    def __init__(self, root: Path | None, clock: Clock) -> None:
        """`root`: the deployment's folder; None where it keeps no files, and so no receipts."""
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._told: set[str] = set()
        self._folder, self._machine = Path(), ""
        if root is None:
            return
        try:
            self._folder = _store(root / FOLDER)
            boot = _BOOT.read_text("ascii").strip()
            _check_locks(self._folder)
        except OSError as error:
            log.warning("no receipts of tools' executions can be kept", extra={"why": str(error)})
            return
        told = f"{self._folder.name}\0{boot}".encode()
        self._machine = blake3(told).hexdigest(length=8)

    @property
    def are_kept(self) -> bool:
        """Whether executions can have one."""
        return bool(self._machine)

    def new_name(self) -> str:
        """For an execution that is new; empty where none can be kept."""
        return f"{self._machine}.{secrets.token_hex(16)}" if self._machine else ""

    def start(self) -> None:
        """Begin to remove what is old."""
        self._task = asyncio.create_task(self._sweep_for_ever())

    async def close(self) -> None:
        """Remove nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.to_thread(self.sweep)
            await asyncio.sleep(_SWEEP_S)

    async def meet(self, tenant: str, claim: Claim, *, wait_s: float) -> Slip | Noted:
        """A slip for an execution that is yet to be made, or what came of it before.

        Args:
            tenant: Whose.
            claim: The execution; it has a receipt's name.
            wait_s: How long one that goes on is waited for.

        Raises:
            ServiceError: `claim.unknown` where nobody knows.
            OSError: where the file cannot be made.
        """
        place = _place(claim.receipt)
        path = self._path(tenant, place.name)
        if claim.receipt in self._told:  # a hook has it tried again
            self._told.discard(claim.receipt)
            path.unlink(missing_ok=True)
            return self._new(path, claim)
        if claim.begun_ns is None:
            return self._new(path, claim)
        try:
            slip = await self._locked(path, wait_s)
        except TimeoutError:
            raise claim.unknown from None
        if slip is None:
            return self._again(path, claim, is_known_here=self._knows(place, claim.begun_ns))
        noted = _read(slip)
        if noted.is_whole and noted.kind != UNDONE:
            slip.close()
            return noted
        if noted.kind == UNDONE or (not noted.has_begun and self._knows(place, claim.begun_ns)):
            os.ftruncate(slip.descriptor, 0)
            return slip
        slip.close()
        return self._again(path, claim, is_known_here=False)

    @contextlib.contextmanager
    def telling(self, claim: Claim) -> Iterator[None]:
        """What comes of it is told here: whoever asks again then wants it done again."""
        try:
            yield
        except ServiceError:
            self._told.add(claim.receipt)
            raise
        self._told.add(claim.receipt)

    def forget(self, tenant: str, names: Iterable[str]) -> None:
        """What came of these is kept elsewhere."""
        for name in names:
            self._told.discard(name)
            with contextlib.suppress(OSError):
                self._path(tenant, _place(name).name).unlink(missing_ok=True)

    def erase(self, tenant: str) -> None:
        """Remove a tenant's."""
        if self._machine:
            shutil.rmtree(self._of(tenant), ignore_errors=True)

    def sweep(self) -> None:
        """Remove those that are older than they are kept for."""
        if not self._machine:
            return
        oldest = self._clock.now_ns() / 1e9 - TOOL_RECEIPT_SECONDS
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    # One receipt

    def _knows(self, place: _Place, begun_ns: int) -> bool:
        """Whether a missing or empty one says that the execution never began."""
        passed_s = (self._clock.now_ns() - begun_ns) / 1e9
        is_young = passed_s < TOOL_RECEIPT_SECONDS - _AGE_MARGIN_S
        return place.machine == self._machine and is_young

    def _again(self, path: Path, claim: Claim, *, is_known_here: bool) -> Slip:
        """For an execution that never began, or that may be repeated."""
        if not is_known_here:
            if not claim.may_repeat:
                raise claim.unknown
            path.unlink(missing_ok=True)
        return self._new(path, claim)

    def _new(self, path: Path, claim: Claim) -> Slip:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:  # another process has taken the run over since this one began it
            raise claim.unknown from None
        slip = Slip(descriptor)
        known = os.fstat(descriptor) if _lock(slip) else None
        if known is None or known.st_size or not known.st_nlink:  # it was quicker just now
            slip.close()
            raise claim.unknown
        return slip

    async def _locked(self, path: Path, wait_s: float) -> Slip | None:
        """The file, once nobody else has it; None where there is none.

        Raises:
            TimeoutError: where somebody has it for longer.
        """
        try:
            slip = Slip(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
        except FileNotFoundError:
            return None
        try:
            async with asyncio.timeout(wait_s):
                while not _lock(slip):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(_LOOK_S)
        except BaseException:
            slip.close()
            raise
        return slip

    def _path(self, tenant: str, name: str) -> Path:
        return self._of(tenant) / name

    def _of(self, tenant: str) -> Path:
        assert is_tenant_id(tenant)
        return self._folder / tenant


def _place(name: str) -> _Place:
    machine, _, rest = name.partition(".")
    assert rest.isalnum(), "a receipt's name is this process's own"
    return _Place(machine, rest)


def _lock(slip: Slip) -> bool:
    try:
        fcntl.flock(slip.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(slip: Slip) -> Noted:
    return receipt.read(slip.descriptor, FRAME_BYTES_MAX)


def _store(folder: Path) -> Path:
    """Where this deployment's are: under a name that nobody can guess, the same for ever."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known, draft = folder / _STORE, folder / f"{_STORE}.{secrets.token_hex(8)}"
    if not known.exists():
        draft.write_text(secrets.token_hex(16), "ascii")
        with contextlib.suppress(FileExistsError):  # another process was quicker
            os.link(draft, known)
        draft.unlink()
    store = folder / known.read_text("ascii").strip()
    store.mkdir(mode=0o700, exist_ok=True)
    return store


def _check_locks(folder: Path) -> None:
    """Refuse a file system without locks.

    Raises:
        OSError: where there are none.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
