"""What an engine tells of what stands in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measures:
    """At one moment, over all tenants."""

    open_count: int = 0
    """Namespaces that stand in memory."""
    lag_records: int = 0
    """Records of large namespaces that no graph has yet."""
    builds_running: int = 0
    """Namespaces whose graphs are being built."""
    memory_bytes: int = 0
    """What vectors and graphs take, mapped files included."""

    def __add__(self, other: Measures) -> Measures:
        """Of both together."""
        return Measures(
            self.open_count + other.open_count,
            self.lag_records + other.lag_records,
            self.builds_running + other.builds_running,
            self.memory_bytes + other.memory_bytes,
        )
