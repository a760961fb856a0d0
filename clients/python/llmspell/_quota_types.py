"""Quotas, as users see them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of a tenant."""

    name: str
    """Such as `requests_per_minute` or `concurrent_calls`."""
    limit: float
    """At most so much, at the gateway that answered."""
    used: float
    """Of that, now."""
    refused_count: int
    """Calls that were refused for it of late."""


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """What a tenant may take at the public door, and what it has taken."""

    quotas: list[Quota]
    """Those that are limited."""
    weight: float
    """Of its turns where calls wait; 1 is usual."""
    gateway_count: int
    """How many gateways share the limits."""
