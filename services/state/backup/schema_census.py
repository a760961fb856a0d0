"""Whether the schemas of an archive go together."""

from __future__ import annotations

from services.common.limits import SCHEMA_VERSIONS_MAX, SCHEMAS_MAX
from services.state.backup.lines import Record, UnfitError, check
from services.state.backup.schema_lines import SchemaLine
from services.state.migrations import rules
from services.state.migrations.model import Family


class SchemaCheck:
    """Sees schemas in order of name, each before its versions. See `census.Check`."""

    def __init__(self) -> None:
        self._families: list[Family] = []
        self._versions: list[str] = []
        self._begun = 0

    def see(self, line: SchemaLine, record: Record | None, number: int) -> None:
        """See `census.Check`."""
        assert record is not None, "a schema of which something was withheld is left out"
        if line.schema is not None:
            self._close()
            self._begin(line, number)
            return
        assert line.version is not None
        known = self._families[-1].name if self._families else ""
        check(known == line.name, "name", "is that of no schema before this line")
        is_first = not self._versions
        has_none = not line.version.transforms
        check(has_none or not is_first, "transforms", "must be empty in the first version")
        self._versions.append(line.version.version)
        count = len(self._versions)
        check(count <= SCHEMA_VERSIONS_MAX, "version", f"is one of more than {SCHEMA_VERSIONS_MAX}")

    def end(self) -> None:
        """See `census.Check`."""
        self._close()

    def _begin(self, line: SchemaLine, number: int) -> None:
        assert line.schema is not None
        part = line.schema
        family = Family(line.name, part.scope_pattern, part.key_prefix, part.current)
        for other in self._families:
            overlaps = rules.overlap(family, other)
            check(not overlaps, "scope_pattern", f"overlaps that of schema {other.name}")
        self._families.append(family)
        self._versions = []
        self._begun = number
        check(len(self._families) <= SCHEMAS_MAX, "name", f"is one of more than {SCHEMAS_MAX}")

    def _close(self) -> None:
        """The schema's versions were all seen."""
        if self._families and self._families[-1].current not in self._versions:
            raise UnfitError("is no version of it", "current", number=self._begun)
