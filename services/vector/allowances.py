"""What each tenant may have here, as its operator says: vectors, bytes, dimensions.

The engines ask in the transaction of a write, so what is counted is what there is: many callers at
the edge cannot go over it together, and what is removed is room again at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import Reason, ServiceError


@dataclass(frozen=True, slots=True)
class Allowance:
    """The most of each that a tenant may have; 0: there is no limit."""

    vectors: int = 0
    stored_bytes: int = 0
    """Of vectors, metadata and texts, histories with them."""
    dimension: int = 0

    def check_dimension(self, dimension: int) -> None:
        """A collection is made.

        Raises:
            ServiceError: TENANT_LIMIT_REACHED.
        """
        if self.dimension and dimension > self.dimension:
            raise _reached("dimensions", dimension, self.dimension, "Use shorter vectors.")

    def check_room(
        self, vectors: int, stored_bytes: int, *, more_vectors: int, more_bytes: int
    ) -> None:
        """What there is after a write; what does not make it more is never refused.

        Raises:
            ServiceError: TENANT_LIMIT_REACHED.
        """
        advice = "Delete some, or ask the operator for more."
        if self.vectors and more_vectors > 0 and vectors > self.vectors:
            raise _reached("vectors", vectors, self.vectors, advice)
        if self.stored_bytes and more_bytes > 0 and stored_bytes > self.stored_bytes:
            raise _reached("bytes", stored_bytes, self.stored_bytes, advice)


UNLIMITED = Allowance()


class Allowances:
    """Of all tenants that were told of; asked in the writer's thread, told in the loop's."""

    def __init__(self) -> None:
        self._of: dict[str, Allowance] = {}
        self._used: set[str] = set()

    def put(self, tenant: str, allowance: Allowance) -> None:
        """Say what a tenant may have from now on."""
        if allowance == UNLIMITED:
            self._of.pop(tenant, None)
        else:
            self._of[tenant] = allowance

    def get(self, tenant: str) -> Allowance:
        """What a tenant may have."""
        self._used.add(tenant)
        return self._of.get(tenant, UNLIMITED)

    def take_used(self) -> set[str]:
        """Who wrote since this was asked last."""
        used, self._used = self._used, set()
        return used


def _reached(field: str, got: int, limit: int, advice: str) -> ServiceError:
    return ServiceError(
        Reason.TENANT_LIMIT_REACHED,
        f"The tenant's {field} would be {got}; its limit is {limit}. {advice}",
        field=field,
        got=got,
        limit=limit,
    )
