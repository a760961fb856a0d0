"""Tools for the files in the tenant's folder."""

from __future__ import annotations

from services.runtime.toolbox.filesystem import (
    archive_handler,
    file_converter,
    file_operations,
    file_search,
    file_watcher,
)

MODULES = (archive_handler, file_converter, file_operations, file_search, file_watcher)
