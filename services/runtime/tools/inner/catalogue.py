"""Every tool whose body runs in the runtime itself."""

from __future__ import annotations

from services.runtime.toolbox.model import Tool
from services.runtime.tools.entry import Entry
from services.runtime.tools.inner import (
    document_chunker,
    embedding_generator,
    environment_reader,
    semantic_search,
    similarity_calculator,
    system_monitor,
    tool_state,
    vector_search,
)
from services.runtime.tools.inner.desk import Surroundings, entry_of

MODULES = (
    document_chunker,
    embedding_generator,
    semantic_search,
    similarity_calculator,
    vector_search,
    tool_state,
    environment_reader,
    system_monitor,
)
"""Each has its tool in `TOOL`. A line for each, in order of category and name."""

TOOLS: dict[str, Tool] = {module.TOOL.name: module.TOOL for module in MODULES}


def inner_entries(surroundings: Surroundings) -> tuple[Entry, ...]:
    """All of them, for a toolbox."""
    return tuple(entry_of(tool, surroundings) for tool in TOOLS.values())
