"""What every VectorStorage must do, gathered by subject; test_vector_contract.py runs it."""

from __future__ import annotations

import asyncio

from tests.contract import (
    vector_collections,
    vector_copies,
    vector_filtering,
    vector_history,
    vector_policy,
    vector_records,
    vector_searching,
    vector_time,
)

PREPARING = {"keep_history", "with_shadow", "two_owners"}
SUBJECTS = (
    vector_collections,
    vector_records,
    vector_filtering,
    vector_searching,
    vector_time,
    vector_history,
    vector_copies,
    vector_policy,
)

SUITE = [
    check
    for subject in SUBJECTS
    for name, check in vars(subject).items()
    if asyncio.iscoroutinefunction(check)
    and check.__module__ == subject.__name__
    and name not in PREPARING
]
