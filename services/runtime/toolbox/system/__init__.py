"""Tools for the machine beneath."""

from __future__ import annotations

from services.runtime.toolbox.system import process_executor

MODULES = (process_executor,)
