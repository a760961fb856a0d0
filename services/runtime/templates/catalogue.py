"""The templates that come with this deployment."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from services.common.errors import Reason, ServiceError, required
from services.runtime.templates.model import Template

FOLDER = Path(__file__).parent / "lua"


class Catalogue:
    """All templates of a folder, by id and in that order."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Read them.

        Raises:
            ValueError: One is not as it must be, or is not named after its id.
        """
        self.templates: Mapping[str, Template] = {
            path.stem: _read(path) for path in sorted(folder.glob("*.lua"))
        }

    def find(self, template_id: str) -> Template:
        """A template; old ids have underscores.

        Raises:
            ServiceError: TEMPLATE_NOT_FOUND, with the nearest id; FIELD_REQUIRED.
        """
        if not template_id:
            raise required("id")
        found = self.templates.get(template_id.replace("_", "-"))
        if found is not None:
            return found
        near = difflib.get_close_matches(template_id[:100], self.templates, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ServiceError(
            Reason.TEMPLATE_NOT_FOUND,
            f"Template {template_id[:100]!r} not found.{hint}",
            template=template_id[:100],
        )


def _read(path: Path) -> Template:
    template = Template.of(path.read_text("utf-8"))
    if template.head.id != path.stem:
        raise ValueError(f"{path.name} has the id {template.head.id}")
    return template
