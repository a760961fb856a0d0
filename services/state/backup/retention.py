"""Which backups are kept no longer. The newest of each owner always is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.state.backup.model import Listed

_DAY_NS = 24 * 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Retention:
    """What each owner's backups may be; 0 sets no bound."""

    count: int = 0
    days: float = 0
    total_bytes: int = 0
    """Of their files; what they share counts once."""


def outlived(
    backups: Sequence[Listed], retention: Retention, now_ns: int, kept: Collection[str] = ()
) -> list[Listed]:
    """The backups that are to go.

    Args:
        backups: One owner's, the newest first.
        retention: What may stay.
        now_ns: The time.
        kept: Ids of backups that are needed whatever they are.
    """
    sound = [each for each in backups if each.manifest is not None]
    doomed: list[Listed] = []
    files: dict[tuple[str, str], int] = {}
    for number, each in enumerate(sound):
        files |= files_of(each)
        is_over = (
            (retention.count and number >= retention.count)
            or (retention.days and age_ns(each, now_ns) > retention.days * _DAY_NS)
            or (retention.total_bytes and sum(files.values()) > retention.total_bytes)
        )
        if number and is_over and each.backup_id not in kept:
            doomed.append(each)
    return doomed


def files_of(backup: Listed) -> dict[tuple[str, str], int]:
    """Tenant and name of each of its files, with its size."""
    if backup.manifest is None:
        return {}
    return {
        (part.tenant, file.name): file.stored_bytes
        for part in backup.manifest.tenants
        for file in part.files()
    }


def age_ns(backup: Listed, now_ns: int) -> int:
    """How long ago it was made."""
    return now_ns - backup.manifest.create_time_ns if backup.manifest else 0
