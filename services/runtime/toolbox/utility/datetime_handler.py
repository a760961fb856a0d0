"""datetime-handler: times read, written, moved between zones, added to and compared."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from dateutil import parser as dateutil_parser
from dateutil.relativedelta import relativedelta

from services.runtime.toolbox import clock
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Outcome,
    Tool,
    field_invalid,
    limit_exceeded,
    parameters,
    required,
)
from services.runtime.toolbox.schema import choice, mapping, number, record, text, whole
from services.runtime.toolbox.utility import time_format, zones

INPUT_LENGTH_MAX = 200

_FORMAT = "%Y-%m-%dT%H:%M:%S%.fZ"
"""Of a time in UTC."""
_FORMAT_WITH_OFFSET = "%Y-%m-%dT%H:%M:%S%.f%:z"
_EXAMPLES = {
    "ISO8601": _FORMAT,
    "RFC3339": "%Y-%m-%d %H:%M:%S%:z",
    "RFC2822": "%a, %d %b %Y %H:%M:%S %z",
    "Unix timestamp": "%s",
    "Human readable": "%B %d, %Y at %I:%M %p",
    "Date only": "%Y-%m-%d",
    "Time only": "%H:%M:%S",
}
_READ_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d",
    "%s",
)
"""Tried in this order; then the text is read as people write."""
_TIMESTAMP = re.compile(r"-?\d{5,12}(\.\d{1,9})?")
_ZONE_HOURS = {
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}  # fmt: skip
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}")
_UNITS: dict[str, tuple[str, float]] = {
    "microsecond": ("seconds", 1e-6),
    "millisecond": ("seconds", 1e-3),
    "second": ("seconds", 1),
    "minute": ("seconds", 60),
    "hour": ("seconds", 3600),
    "day": ("days", 1),
    "week": ("days", 7),
    "month": ("months", 1),
    "quarter": ("months", 3),
    "year": ("months", 12),
}
_SHORT_UNITS = {
    "us": "microsecond", "ms": "millisecond", "s": "second", "sec": "second", "m": "minute",
    "min": "minute", "h": "hour", "hr": "hour", "d": "day", "w": "week", "mo": "month", "y": "year",
}  # fmt: skip


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    del desk
    operation = arguments["operation"]
    try:
        result = _OPERATIONS[operation](arguments)
    except OverflowError:
        field = "amount" if "amount" in arguments else "input"
        raise field_invalid(field, "leads past the years 1 to 9999") from None
    return Outcome(operation=operation, result=result, message=f"{operation} operation completed")


def _default_zone(arguments: Arguments) -> tzinfo:
    return zones.zone(arguments.get("timezone", "UTC"), field="timezone")


def _moment(arguments: Arguments, field: str = "input") -> tuple[datetime, str]:
    """The time of a field, and how it was written."""
    given = required(arguments, field)
    source = given if isinstance(given, str) else repr(given)
    if len(source) > INPUT_LENGTH_MAX:
        raise limit_exceeded(field, len(source), INPUT_LENGTH_MAX, "letters")
    default_zone = _default_zone(arguments)
    if _TIMESTAMP.fullmatch(source.strip()):
        return _from_timestamp(float(source), default_zone, field), "%s"
    return _as_people_write(source, default_zone, field)


def _from_timestamp(seconds: float, default_zone: tzinfo, field: str) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone(default_zone)
    except (ValueError, OverflowError):
        raise field_invalid(field, "is a timestamp past the years 1 to 9999") from None


def _as_people_write(source: str, default_zone: tzinfo, field: str) -> tuple[datetime, str]:
    plain = source.strip()
    try:
        moment, shape = datetime.fromisoformat(plain), "ISO 8601"
    except ValueError:
        try:
            moment = dateutil_parser.parse(
                plain, default=_what_is_left_out(plain, default_zone), tzinfos=_named_zone
            )
            shape = "as written"
        except (ValueError, OverflowError, TypeError):
            raise field_invalid(field, "is not a time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=default_zone)
    return moment, shape


def _named_zone(name: str | None, offset_s: int | None) -> tzinfo | None:
    """A zone as RFC 2822 names it; another name says too little to be guessed."""
    if offset_s is not None:
        return timezone(timedelta(seconds=offset_s))
    if name is None:
        return None
    if name.upper() in ("UTC", "GMT", "Z"):
        return UTC
    if name.upper() not in _ZONE_HOURS:
        raise ValueError(name)
    return timezone(timedelta(hours=_ZONE_HOURS[name.upper()]))


def _what_is_left_out(source: str, zone: tzinfo) -> datetime:
    """Where a time of day stands alone, today; otherwise the first of its kind, in this year."""
    today = clock.now().astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    today = today.replace(tzinfo=None)
    return today if _TIME_OF_DAY.match(source) else today.replace(month=1, day=1)


def _written(moment: datetime, arguments: Arguments) -> str:
    if "format" in arguments:
        return time_format.written(moment, arguments["format"])
    return _plainly(moment)


def _plainly(moment: datetime) -> str:
    in_utc = not moment.utcoffset()
    return time_format.written(moment, _FORMAT if in_utc else _FORMAT_WITH_OFFSET)


def _parse(arguments: Arguments) -> dict[str, Any]:
    source = required(arguments, "input")
    if "format" in arguments and isinstance(source, str):
        shape = arguments["format"]
        moment = time_format.read(source, shape, _default_zone(arguments))
    else:
        moment, shape = _moment(arguments)
    parsed = {
        "utc": _plainly(moment.astimezone(UTC)),
        "timestamp": int(moment.timestamp()),
        **_parts(moment),
        "offset": time_format.written(moment, "%:z"),
    }
    return {"input": str(source), "parsed": parsed, "format_used": shape}


def _parts(moment: datetime) -> dict[str, Any]:
    return {
        "year": moment.year,
        "month": moment.month,
        "day": moment.day,
        "hour": moment.hour,
        "minute": moment.minute,
        "second": moment.second,
        "weekday": time_format.written(moment, "%A"),
    }


def _now(arguments: Arguments) -> dict[str, Any]:
    moment = clock.now().astimezone(_default_zone(arguments))
    shape = arguments.get("format") or (_FORMAT_WITH_OFFSET if moment.utcoffset() else _FORMAT)
    return {
        "timezone": arguments.get("timezone", "UTC"),
        "datetime": time_format.written(moment, shape),
        "format": shape,
        "timestamp": int(moment.timestamp()),
    }


def _convert(arguments: Arguments) -> dict[str, Any]:
    name = required(arguments, "target_timezone")
    target = zones.zone(name, field="target_timezone")
    moment, _ = _moment(arguments)
    return {
        "input": str(arguments["input"]),
        "target_timezone": name,
        "original": _written(moment, arguments),
        "converted": _written(moment.astimezone(target), arguments),
    }


def _add(arguments: Arguments) -> dict[str, Any]:
    return _moved(arguments, 1)


def _subtract(arguments: Arguments) -> dict[str, Any]:
    return _moved(arguments, -1)


def _moved(arguments: Arguments, sign: int) -> dict[str, Any]:
    moment, _ = _moment(arguments)
    amount, unit = required(arguments, "amount"), required(arguments, "unit")
    return {
        "input": str(arguments["input"]),
        "amount": amount,
        "unit": unit,
        "original": _written(moment, arguments),
        "result": _written(_sum(moment, sign * amount, _unit(unit)), arguments),
    }


def _unit(name: str) -> str:
    plain = name.strip().lower()
    plain = _SHORT_UNITS.get(plain, plain)
    for known in (plain, plain.removesuffix("s")):
        if known in _UNITS:
            return known
    raise field_invalid("unit", f"must be one of {', '.join(_UNITS)}")


def _sum(moment: datetime, amount: float, unit: str) -> datetime:
    """Hours and less pass on the clock everywhere; days and more keep the time of day."""
    kind, factor = _UNITS[unit]
    if kind == "seconds":
        later = moment.astimezone(UTC) + timedelta(seconds=amount * factor)
        return later.astimezone(moment.tzinfo)
    if kind == "days":
        return moment + timedelta(days=amount * factor)
    if amount != int(amount):
        raise field_invalid("amount", f"must be a whole number of {unit}s")
    try:
        moved: datetime = moment + relativedelta(months=int(amount * factor))
    except ValueError as error:
        raise OverflowError from error
    return moved


def _difference(arguments: Arguments) -> dict[str, Any]:
    start, end = _moment(arguments, "start")[0], _moment(arguments, "end")[0]
    seconds = (end - start).total_seconds()
    return {
        "start": str(arguments["start"]),
        "end": str(arguments["end"]),
        "difference": {
            "total_seconds": int(seconds) if seconds.is_integer() else seconds,
            "days": int(seconds / 86_400),
            "hours": int(seconds / 3600),
            "minutes": int(seconds / 60),
            "human_readable": _in_words(seconds),
        },
    }


def _in_words(seconds: float) -> str:
    rest = int(abs(seconds))
    parts = []
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    words = ", ".join(parts) or "0 seconds"
    return f"-{words}" if seconds < 0 and parts else words


def _info(arguments: Arguments) -> dict[str, Any]:
    moment, _ = _moment(arguments)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    info = {
        **_parts(moment),
        "day_of_year": moment.timetuple().tm_yday,
        "week_of_year": moment.isocalendar().week,
        "quarter": (moment.month + 2) // 3,
        "is_leap_year": calendar.isleap(moment.year),
        "days_in_month": calendar.monthrange(moment.year, moment.month)[1],
        "start_of_day": _written(midnight, arguments),
        "end_of_day": _written(
            midnight.replace(hour=23, minute=59, second=59, microsecond=999_999), arguments
        ),
    }
    return {"input": str(arguments["input"]), "info": info}


def _formats(_: Arguments) -> dict[str, Any]:
    return {"available_formats": list(_READ_FORMATS), "example_formats": _EXAMPLES}


_OPERATIONS: dict[str, Callable[[Arguments], dict[str, Any]]] = {
    "parse": _parse,
    "now": _now,
    "convert_timezone": _convert,
    "add": _add,
    "subtract": _subtract,
    "difference": _difference,
    "info": _info,
    "formats": _formats,
}
_TIME = {"type": ["string", "number"]}
_PARTS = mapping("Parts of the time.", {"type": ["string", "integer", "number", "boolean"]})

TOOLS = (
    Tool(
        name="datetime-handler",
        description="Reads, writes, converts, adds to and compares dates and times.",
        category="utility",
        level=Level.SAFE,
        old_names=("date_time_handler", "date-time-handler"),
        synonyms={
            "text": "input",
            "date": "input",
            "datetime": "input",
            "tz": "timezone",
            "to_timezone": "target_timezone",
            "from_timezone": "timezone",
            "start_date": "start",
            "end_date": "end",
        },
        parameters=parameters(
            (),
            operation=choice("What to do.", *_OPERATIONS, default="parse"),
            input={**_TIME, "description": "A time as people write it, or a Unix timestamp."},
            timezone=text("Zone of a time that tells none, and of now; default UTC."),
            target_timezone=text("convert_timezone: IANA name, or an offset such as +02:00."),
            amount=number("add and subtract: how much.", minimum=-1e15, maximum=1e15),
            unit=text("add and subtract: microseconds to years; `days`, `day` and `d` are one."),
            start={**_TIME, "description": "difference: the first time."},
            end={**_TIME, "description": "difference: the second time."},
            format=text("How results are written, and for parse how the input is, such as %F %T."),
        ),
        result=record(
            "",
            (),
            input=text("As given."),
            parsed=_PARTS,
            format_used=text("parse: how the input was written."),
            timezone=text("now: the zone."),
            datetime=text("now: the time."),
            format=text("now: how it is written."),
            timestamp=whole("now: seconds since 1970."),
            target_timezone=text("convert_timezone: as given."),
            original=text("The input, written by the format."),
            converted=text("convert_timezone: the same time there."),
            amount=number("As given."),
            unit=text("As given."),
            result=text("add and subtract: the other time."),
            start=text("As given."),
            end=text("As given."),
            difference=mapping(
                "total_seconds, and the whole of days, hours, minutes; human_readable.",
                {"type": ["string", "number"]},
            ),
            info=_PARTS,
            available_formats={
                "type": "array",
                "items": {"type": "string"},
                "description": "Formats that `parse` knows.",
            },
            example_formats=mapping("Formats by what they are for.", {"type": "string"}),
        ),
        notes="Months and years keep the day where the month has it. Without `format`, times are "
        f"written as {_FORMAT} in UTC and with their offset elsewhere.",
        run=_run,
    ),
)
