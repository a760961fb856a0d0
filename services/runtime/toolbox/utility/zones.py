"""Time zones by name, from the tzdata package: the same on every machine.

All are read when the tools' zygote starts, because nothing can be opened in the jail.
"""

from __future__ import annotations

import difflib
import io
import re
from datetime import UTC, timedelta, timezone, tzinfo
from importlib import resources
from zoneinfo import ZoneInfo

from services.runtime.toolbox.model import field_invalid

_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?")
_ALWAYS_UTC = {"utc", "z", "gmt", "local", ""}
_HOURS_MAX, _MINUTES_MAX = 23, 59


def _read() -> dict[str, bytes]:
    package = resources.files("tzdata")
    names = package.joinpath("zones").read_text("utf-8").split()
    return {name: package.joinpath("zoneinfo", *name.split("/")).read_bytes() for name in names}


_DATA = _read()
_BY_LOWER_CASE = {name.lower(): name for name in _DATA}


def zone(name: str, *, field: str) -> tzinfo:
    """A time zone by its IANA name, in any case of letters, or an offset such as `+02:00`.

    Raises:
        ToolError: FIELD_INVALID, with the nearest name.
    """
    plain = name.strip()
    if plain.lower() in _ALWAYS_UTC:
        return UTC
    offset = _OFFSET.fullmatch(plain.upper())
    if offset and int(offset[2]) <= _HOURS_MAX and int(offset[3] or 0) <= _MINUTES_MAX:
        distance = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(distance if offset[1] == "+" else -distance)
    known = _BY_LOWER_CASE.get(plain.lower().replace(" ", "_"))
    if known is None:
        near = difflib.get_close_matches(plain[:60], _DATA, n=1)
        hint = f"; did you mean {near[0]}" if near else ""
        raise field_invalid(field, f"must be a time zone such as Europe/Berlin or +02:00{hint}")
    return ZoneInfo.from_file(io.BytesIO(_DATA[known]), key=known)
