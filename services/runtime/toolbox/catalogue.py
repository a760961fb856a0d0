"""Every tool whose body runs in a jailed process, by name."""

from __future__ import annotations

from services.runtime.toolbox import documents, filesystem, media, system
from services.runtime.toolbox.code import code_search
from services.runtime.toolbox.data import (
    citation_formatter,
    csv_analyzer,
    graph_builder,
    json_processor,
    xml_processor,
)
from services.runtime.toolbox.model import Tool
from services.runtime.toolbox.network.modules import NETWORK
from services.runtime.toolbox.utility import (
    base64_encoder,
    calculator,
    data_validator,
    datetime_handler,
    diff_calculator,
    hash_calculator,
    regex_matcher,
    template_creator,
    text_manipulator,
    uuid_generator,
)

MODULES = (
    code_search,
    citation_formatter,
    csv_analyzer,
    graph_builder,
    json_processor,
    xml_processor,
    *documents.MODULES,
    *filesystem.MODULES,
    *media.MODULES,
    *system.MODULES,
    *NETWORK,
    base64_encoder,
    calculator,
    data_validator,
    datetime_handler,
    diff_calculator,
    hash_calculator,
    regex_matcher,
    template_creator,
    text_manipulator,
    uuid_generator,
)
"""Each has its tools in `TOOLS`. A line for each, in order of category and name."""

TOOLS: dict[str, Tool] = {tool.name: tool for module in MODULES for tool in module.TOOLS}
