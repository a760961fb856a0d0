"""Times written and read by a pattern of `%` letters, as chrono and strftime know them.

Names of days and months are English. Reading knows every letter that says something about a time;
the compound ones (`%F`, `%T` …) are taken apart first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from services.runtime.toolbox.model import field_invalid, limit_exceeded

PATTERN_LENGTH_MAX = 200

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_COMPOUND = {
    "%D": "%m/%d/%y", "%F": "%Y-%m-%d", "%T": "%H:%M:%S", "%R": "%H:%M", "%r": "%I:%M:%S %p",
    "%v": "%e-%b-%Y", "%x": "%m/%d/%y", "%X": "%H:%M:%S", "%c": "%a %b %e %H:%M:%S %Y",
    "%+": "%Y-%m-%dT%H:%M:%S%.f%:z", "%h": "%b", "%n": "\n", "%t": "\t",
}  # fmt: skip
_PAIR = re.compile("%.", re.DOTALL)
_LETTER = re.compile(r"%(?P<pad>[-_0]?)(?P<letter>\.[369]?f|[369]f|::?z|[A-Za-z%+])|%")
_NOON = 12


def _hour_12(moment: datetime) -> int:
    return moment.hour % _NOON or _NOON


def _offset(moment: datetime, separator: str, *, seconds: bool = False) -> str:
    total = int((moment.utcoffset() or timedelta()).total_seconds())
    hours, rest = divmod(abs(total), 3600)
    parts = [f"{hours:02}", f"{rest // 60:02}", *([f"{rest % 60:02}"] if seconds else [])]
    return ("-" if total < 0 else "+") + separator.join(parts)


def _fraction(moment: datetime) -> str:
    """As many digits as are needed: none, 3, or 6."""
    if not moment.microsecond:
        return ""
    digits = f"{moment.microsecond:06}"
    return "." + (digits[:3] if digits.endswith("000") else digits)


_NUMBERS: dict[str, tuple[Callable[[datetime], int], int, str]] = {
    "Y": (lambda moment: moment.year, 4, "0"),
    "C": (lambda moment: moment.year // 100, 2, "0"),
    "y": (lambda moment: moment.year % 100, 2, "0"),
    "m": (lambda moment: moment.month, 2, "0"),
    "d": (lambda moment: moment.day, 2, "0"),
    "e": (lambda moment: moment.day, 2, " "),
    "H": (lambda moment: moment.hour, 2, "0"),
    "k": (lambda moment: moment.hour, 2, " "),
    "I": (_hour_12, 2, "0"),
    "l": (_hour_12, 2, " "),
    "M": (lambda moment: moment.minute, 2, "0"),
    "S": (lambda moment: moment.second, 2, "0"),
    "f": (lambda moment: moment.microsecond * 1000, 9, "0"),
    "j": (lambda moment: moment.timetuple().tm_yday, 3, "0"),
    "u": (lambda moment: moment.isoweekday(), 1, "0"),
    "w": (lambda moment: moment.isoweekday() % 7, 1, "0"),
    "G": (lambda moment: moment.isocalendar().year, 4, "0"),
    "g": (lambda moment: moment.isocalendar().year % 100, 2, "0"),
    "V": (lambda moment: moment.isocalendar().week, 2, "0"),
    "U": (lambda moment: (moment.timetuple().tm_yday + 6 - moment.isoweekday() % 7) // 7, 2, "0"),
    "W": (lambda moment: (moment.timetuple().tm_yday + 6 - moment.weekday()) // 7, 2, "0"),
    "q": (lambda moment: (moment.month + 2) // 3, 1, "0"),
    "s": (lambda moment: int(moment.timestamp()), 1, "0"),
}
"""Letter → number, width, what fills it."""
_WORDS: dict[str, Callable[[datetime], str]] = {
    "A": lambda moment: _DAYS[moment.weekday()],
    "a": lambda moment: _DAYS[moment.weekday()][:3],
    "B": lambda moment: _MONTHS[moment.month - 1],
    "b": lambda moment: _MONTHS[moment.month - 1][:3],
    "p": lambda moment: "PM" if moment.hour >= _NOON else "AM",
    "P": lambda moment: "pm" if moment.hour >= _NOON else "am",
    "z": lambda moment: _offset(moment, ""),
    ":z": lambda moment: _offset(moment, ":"),
    "::z": lambda moment: _offset(moment, ":", seconds=True),
    "Z": lambda moment: moment.tzname() or "UTC",
    ".f": _fraction,
    ".3f": lambda moment: f".{moment.microsecond // 1000:03}",
    ".6f": lambda moment: f".{moment.microsecond:06}",
    ".9f": lambda moment: f".{moment.microsecond:06}000",
    "3f": lambda moment: f"{moment.microsecond // 1000:03}",
    "6f": lambda moment: f"{moment.microsecond:06}",
    "9f": lambda moment: f"{moment.microsecond:06}000",
    "%": lambda _: "%",
}
_READABLE = {
    "Y": r"[+-]?\d{1,4}", "y": r"\d{2}", "m": r"\d{1,2}", "d": r"\d{1,2}", "e": r" ?\d{1,2}",
    "H": r"\d{1,2}", "k": r" ?\d{1,2}", "I": r"\d{1,2}", "l": r" ?\d{1,2}", "M": r"\d{1,2}",
    "S": r"\d{1,2}", "f": r"\d{1,9}", ".f": r"(?:\.\d{1,9})?", ".3f": r"\.\d{3}",
    ".6f": r"\.\d{6}", ".9f": r"\.\d{9}", "3f": r"\d{3}", "6f": r"\d{6}", "9f": r"\d{9}",
    "j": r"\d{1,3}", "s": r"-?\d{1,12}", "p": "[AaPp][Mm]", "P": "[AaPp][Mm]",
    "A": "|".join(_DAYS), "a": "|".join(day[:3] for day in _DAYS), "B": "|".join(_MONTHS),
    "b": "|".join(month[:3] for month in _MONTHS), "Z": "[A-Za-z]{1,6}",
    "z": r"[Zz]|[+-]\d{2}:?\d{2}", ":z": r"[Zz]|[+-]\d{2}:?\d{2}",
    "::z": r"[Zz]|[+-]\d{2}:?\d{2}:?\d{2}", "%": "%",
}  # fmt: skip


def _taken_apart(pattern: str, field: str) -> list[str | tuple[str, str]]:
    """Plain text, and pairs of padding and letter."""
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise limit_exceeded(field, len(pattern), PATTERN_LENGTH_MAX, "letters")
    # `%%F` is a percent sign and an F, so both are looked at.
    pattern = _PAIR.sub(lambda pair: _COMPOUND.get(pair[0], pair[0]), pattern)
    pieces: list[str | tuple[str, str]] = []
    end = 0
    for match in _LETTER.finditer(pattern):
        pieces.append(pattern[end : match.start()])
        end = match.end()
        letter = match["letter"]
        if letter is None or (letter not in _NUMBERS and letter not in _WORDS):
            raise field_invalid(field, f"has {match[0]!r}, which is no part of a time")
        pieces.append((match["pad"], letter))
    return [piece for piece in (*pieces, pattern[end:]) if piece]


def written(moment: datetime, pattern: str, *, field: str = "format") -> str:
    """The time by a pattern.

    Raises:
        ToolError: FIELD_INVALID for a letter that says nothing, LIMIT_EXCEEDED.
    """
    return "".join(
        piece if isinstance(piece, str) else _one_written(moment, *piece)
        for piece in _taken_apart(pattern, field)
    )


def _one_written(moment: datetime, pad: str, letter: str) -> str:
    if letter in _WORDS:
        return _WORDS[letter](moment)
    number, width, fill = _NUMBERS[letter]
    fill = {"-": "", "_": " ", "0": "0", "": fill}[pad]
    text = str(number(moment))
    return text.rjust(width, fill) if fill else text


def read(source: str, pattern: str, default_zone: tzinfo, *, field: str = "input") -> datetime:
    """The time that a text holds by a pattern; in `default_zone` unless it tells its own.

    What the pattern leaves out is the first of its kind: month, day, midnight. The year must be
    told.

    Raises:
        ToolError: FIELD_INVALID.
    """
    letters: list[str] = []
    expression = ""
    for piece in _taken_apart(pattern, "format"):
        if isinstance(piece, str):
            expression += re.escape(piece)
            continue
        if piece[1] not in _READABLE:
            raise field_invalid("format", f"has %{piece[1]}, which cannot be read")
        letters.append(piece[1])
        expression += f"({_READABLE[piece[1]]})"
    match = re.fullmatch(expression, source.strip(), re.IGNORECASE)
    if match is None:
        raise field_invalid(field, f"is not a time written as {pattern}")
    told = {letter: text.strip() for letter, text in zip(letters, match.groups(), strict=True)}
    try:
        return _moment(told, default_zone)
    except (ValueError, OverflowError) as error:
        raise field_invalid(field, f"is not a time: {error}") from None


def _moment(told: dict[str, str], default_zone: tzinfo) -> datetime:
    if "s" in told:
        return datetime.fromtimestamp(int(told["s"]), UTC).astimezone(default_zone)
    if "Y" not in told and "y" not in told:
        raise ValueError("the year is not told")
    moment = datetime(
        _year(told),
        _month(told),
        int(told.get("d") or told.get("e") or 1),
        _hour(told),
        int(told.get("M", 0)),
        int(told.get("S", 0)),
        _microsecond(told),
        tzinfo=_zone(told, default_zone),
    )
    if "j" in told:
        moment = moment.replace(month=1, day=1) + timedelta(days=int(told["j"]) - 1)
    return moment


def _year(told: dict[str, str]) -> int:
    if "Y" in told:
        return int(told["Y"])
    # As POSIX has it: 69 to 99 are of the last century.
    short = int(told["y"])
    return short + (1900 if short >= 69 else 2000)  # noqa: PLR2004


def _month(told: dict[str, str]) -> int:
    if "m" in told:
        return int(told["m"])
    name = (told.get("B") or told.get("b") or "Jan")[:3].title()
    return [month[:3] for month in _MONTHS].index(name) + 1


def _hour(told: dict[str, str]) -> int:
    for letter in ("H", "k"):
        if letter in told:
            return int(told[letter])
    hour = int(told.get("I") or told.get("l") or 0)
    half = (told.get("p") or told.get("P") or "").upper()
    if not half:
        return hour
    if not 1 <= hour <= _NOON:
        raise ValueError("the hour must be 1 to 12")
    return hour % _NOON + (_NOON if half == "PM" else 0)


def _microsecond(told: dict[str, str]) -> int:
    for letter in (".f", ".3f", ".6f", ".9f", "3f", "6f", "9f", "f"):
        if told.get(letter):
            return int(told[letter].lstrip(".").ljust(6, "0")[:6])
    return 0


def _zone(told: dict[str, str], default_zone: tzinfo) -> tzinfo:
    offset = told.get("z") or told.get(":z") or told.get("::z")
    if offset is None:
        return UTC if told.get("Z", "").upper() in {"UTC", "GMT", "Z"} else default_zone
    if offset.upper() == "Z":
        return UTC
    digits = offset[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    distance = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-distance if offset[0] == "-" else distance)
