"""Templates, as users see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TemplateParameter:
    """A parameter of a template."""

    name: str
    """Its name."""
    description: str
    """One sentence."""
    param_type: str
    """`string`, `integer`, `number`, `boolean`, `array` or `object`."""
    required: bool
    """Whether it must be given."""
    default: Any = None
    """What it is where it is not given."""
    min: float | None = None
    """The least it may be."""
    max: float | None = None
    """The most it may be."""
    min_length: int | None = None
    """The fewest characters or entries."""
    max_length: int | None = None
    """The most characters or entries."""
    pattern: str = ""
    """Regular expression that it must match; empty: any text."""
    allowed_values: Sequence[Any] = ()
    """What it may be; empty: anything of its type."""


@dataclass(frozen=True, slots=True)
class Template:
    """An agent or workflow that is ready to use."""

    id: str
    """Such as `code-review`."""
    name: str
    """Its name for people."""
    description: str
    """What it does."""
    category: str
    """Such as `Research`."""
    version: str
    """Such as `1.0.0`."""
    author: str
    """Who wrote it."""
    requires: Sequence[str]
    """What it needs, such as `model`, `rag`, `files`."""
    tags: Sequence[str]
    """Words to find it by."""
    parameters: Sequence[TemplateParameter]
    """Its parameters."""
    result_schema: Mapping[str, Any]
    """JSON Schema of its result."""
    source: str = ""
    """The script that it is; only `get_template` tells it."""


@dataclass(frozen=True, slots=True)
class TemplateArtifact:
    """What a template made beside its result."""

    filename: str
    """Its name."""
    content: str
    """Its text."""
    mime_type: str
    """Such as `text/markdown`."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """More of it."""


@dataclass(frozen=True, slots=True)
class TemplateResult:
    """What came of a template."""

    result_type: str
    """`text`, `structured`, `file` or `multiple`."""
    result: Any
    """What came of it, as its schema says."""
    artifacts: Sequence[TemplateArtifact]
    """What it made."""
    tokens: int
    """Tokens that models read and wrote."""
    cost_usd: float
    """US dollars."""
    agents_invoked: int
    """How often an agent was asked."""
    elapsed_s: float
    """Seconds that it took."""
    template_version: str
    """Version of the template."""


@dataclass(frozen=True, slots=True)
class TemplateEstimate:
    """What a template would cost."""

    tokens: int
    """Tokens, read and written."""
    cost_usd: float
    """US dollars."""
    duration_s: float
    """Seconds."""
    confidence: float
    """How sure that is, 0 to 1."""
