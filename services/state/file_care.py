"""The state process's file is read through at each start: before it is used, or beside."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from services.common.damage import Damages, name_of
from services.common.datafile import Folder, damaged
from services.common.filecheck import BEFORE_BYTES_MAX, FileReport, check_file
from services.state.layout import SEALED

log = logging.getLogger(__name__)

_BESIDE_NICE = 19
"""Whoever calls comes first."""


class FileCare:
    """Looks after one store's file."""

    def __init__(self, path: Path, damages: Damages) -> None:
        """`damages`: where single records that are damaged are named."""
        self._path = path
        self._damages = damages
        self._is_left = False
        """Whether the file is still to be read."""

    def before(self) -> None:
        """Read a file that is small, in a process of its own; before the store is opened.

        Raises:
            ServiceError: RECORD_CORRUPT where the file may not be used, STORE_NOT_WRITABLE,
                STORE_LOCKED.
        """
        folder = Folder(self._path)
        try:
            folder.look()
            if not folder.file.exists():
                return
            if folder.file.stat().st_size > BEFORE_BYTES_MAX:
                self._is_left = True
                return
            report = self._read()
        finally:
            folder.release()
        if report.broken:
            raise damaged(self._path, report.broken)

    async def beside(self) -> None:
        """Read a file that is large, while it is served; what is wrong is named."""
        if not self._is_left:
            return
        report = await asyncio.to_thread(self._read, nice=_BESIDE_NICE)
        if report.broken:
            error = damaged(self._path, report.broken)
            log.critical(error.message)
            self._damages.note_error(error)

    def _read(self, *, nice: int = 0) -> FileReport:
        try:
            report = check_file(self._path, SEALED, nice=nice)
        except OSError as error:
            log.warning("the data file was not read through", extra={"why": str(error)})
            return FileReport()
        for database, key in report.records:
            why = "A stored record fails its checksum and is not returned."
            self._damages.note(name_of("record", database, key), why)
        for database in report.gaps:
            why = "Some of its pages make no sense; what is in them is not returned."
            self._damages.note(name_of("pages", database), why)
        if report.records or report.gaps:
            found = {"records": len(report.records), "databases": report.gaps}
            log.error("the data file is damaged in places; all else is served", extra=found)
        return report
