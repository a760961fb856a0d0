"""datetime-handler."""

import time
from datetime import UTC, datetime

import pytest

from services.common.errors import Reason
from services.runtime.toolbox.model import ToolError
from services.runtime.toolbox.utility import time_format

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "datetime-handler"
MOMENT = datetime(2024, 2, 29, 17, 5, 9, 120_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("%Y-%m-%dT%H:%M:%S%.fZ", "2024-02-29T17:05:09.120Z"),
        ("%.3f|%.6f|%.9f|%3f|%6f|%f", ".120|.120000|.120000000|120|120000|120000000"),
        ("%a, %d %b %Y %H:%M:%S %z", "Thu, 29 Feb 2024 17:05:09 +0000"),
        ("%A %B %e %-d %-m %_H %j", "Thursday February 29 29 2 17 060"),
        ("%I:%M %p %P %l", "05:05 PM pm  5"),
        ("%F %T %R %D %:z %Z %s", "2024-02-29 17:05:09 17:05 02/29/24 +00:00 UTC 1709226309"),
        ("%G-W%V-%u %U %W %C %y %q", "2024-W09-4 08 09 20 24 1"),
        ("%%F 100%%", "%F 100%"),
    ],
)
async def test_patterns_are_written(pattern, text):
    """Chrono's and strftime's letters."""
    assert time_format.written(MOMENT, pattern) == text


@pytest.mark.parametrize(
    ("pattern", "text", "moment"),
    [
        ("%Y-%m-%dT%H:%M:%S%.fZ", "2024-02-29T17:05:09.12Z", MOMENT),
        ("%d.%m.%Y", "29.02.2024", datetime(2024, 2, 29, tzinfo=UTC)),
        ("%b %e, %Y %I:%M %p", "Feb 29, 2024 12:05 am", datetime(2024, 2, 29, 0, 5, tzinfo=UTC)),
        ("%s", "0", datetime(1970, 1, 1, tzinfo=UTC)),
        ("%Y%j", "2024060", datetime(2024, 2, 29, tzinfo=UTC)),
        ("%F %T %z", "2024-02-29 19:05:09 +0200", MOMENT.replace(microsecond=0)),
    ],
)
async def test_patterns_are_read(pattern, text, moment):
    """The same letters the other way."""
    assert time_format.read(text, pattern, UTC) == moment


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("%F", "2024-02-30"), ("%F", "yesterday"), ("%H", "10"), ("%Y %Q", "1"), ("%Y%", "1"),
     ("%Y" * 200, "1"), ("%Y %I %p", "2024 13 PM")],
)  # fmt: skip
async def test_what_cannot_be_read_is_refused(pattern, text):
    """No day, no year, no letter."""
    with pytest.raises(ToolError):
        time_format.read(text, pattern, UTC)


@pytest.mark.parametrize(
    "source",
    [
        "2024-02-29T17:05:09.12Z",
        "2024-02-29 19:05:09.12+02:00",
        "Feb 29 2024 5:05:09.12 PM UTC",
        "29 Feb 2024 12:05:09.12 EST",
    ],
)
async def test_times_are_parsed_as_people_write_them(hand, source):
    """ISO 8601 and prose; weekday and UTC are told."""
    result = await hand.result(NAME, input=source)
    assert result["parsed"]["utc"] == "2024-02-29T17:05:09.120Z"
    assert result["parsed"]["timestamp"] == 1709226309
    assert (result["parsed"]["weekday"], result["parsed"]["year"]) == ("Thursday", 2024)


async def test_a_format_and_a_zone_are_minded(hand):
    """What tells no zone is in the one that is named."""
    result = await hand.result(
        NAME, input="29/02/2024 18:05", format="%d/%m/%Y %H:%M", timezone="europe/berlin"
    )
    assert result["parsed"]["utc"] == "2024-02-29T17:05:00Z"
    assert result["format_used"] == "%d/%m/%Y %H:%M"


async def test_now_is_now(hand):
    """In the zone that is asked for."""
    result = await hand.result(NAME, operation="now", timezone="Asia/Tokyo")
    assert result["timestamp"] == pytest.approx(time.time(), abs=30)
    assert result["datetime"].endswith("+09:00")
    assert (await hand.result(NAME, operation="now"))["datetime"].endswith("Z")


async def test_zones_know_their_summer_time(hand):
    """Berlin in winter and in summer; offsets will do."""
    for source, offset in (("2024-01-15T12:00:00Z", "+01:00"), ("2024-07-15T12:00:00Z", "+02:00")):
        result = await hand.result(
            NAME, operation="convert_timezone", input=source, target_timezone="Europe/Berlin"
        )
        assert result["converted"].endswith(offset)
        assert result["original"] == source
    result = await hand.result(
        "date_time_handler",
        operation="convert_timezone",
        input="2024-01-15T12:00:00Z",
        target_timezone="-05:30",
        format="%H:%M",
    )
    assert result["converted"] == "06:30"


@pytest.mark.parametrize(
    ("operation", "source", "amount", "result"),
    [
        ("add", "2024-01-31T00:00:00Z", (1, "months"), "2024-02-29T00:00:00Z"),
        ("subtract", "2024-02-29T00:00:00Z", (1, "year"), "2023-02-28T00:00:00Z"),
        ("add", "2024-01-01T00:00:00Z", (1.5, "hours"), "2024-01-01T01:30:00Z"),
        ("add", "2024-01-01T00:00:00Z", (2, "w"), "2024-01-15T00:00:00Z"),
        ("subtract", "2024-01-01T00:00:00Z", (250, "ms"), "2023-12-31T23:59:59.750Z"),
    ],
)
async def test_times_are_added_to(hand, operation, source, amount, result):
    """Months keep the day where they have it."""
    done = await hand.result(
        NAME, operation=operation, input=source, amount=amount[0], unit=amount[1]
    )
    assert (done["original"], done["result"]) == (source, result)


async def test_days_keep_the_hour_and_hours_pass(hand):
    """Over a change to summer time."""
    known = {"operation": "add", "input": "2024-03-30 12:00", "timezone": "Europe/Berlin"}
    day = await hand.result(NAME, **known, amount=1, unit="day", format="%H:%M")
    hours = await hand.result(NAME, **known, amount=24, unit="hours", format="%H:%M")
    assert (day["result"], hours["result"]) == ("12:00", "13:00")


async def test_times_are_compared_and_described(hand):
    """Totals in each unit, and all that a calendar says of a day."""
    result = await hand.result(
        NAME, operation="difference", start="2024-01-01T00:00:00Z", end="2024-01-03T01:30:00Z"
    )
    assert result["difference"] == {
        "total_seconds": 178_200,
        "days": 2,
        "hours": 49,
        "minutes": 2970,
        "human_readable": "2 days, 1 hour, 30 minutes",
    }
    info = (await hand.result(NAME, operation="info", input="2024-02-29T17:05:09Z"))["info"]
    assert (info["day_of_year"], info["week_of_year"], info["days_in_month"]) == (60, 9, 29)
    assert info["is_leap_year"] is True
    assert info["end_of_day"] == "2024-02-29T23:59:59.999999Z"
    assert (await hand.result(NAME, operation="formats"))["example_formats"][
        "Date only"
    ] == "%Y-%m-%d"


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({}, Reason.FIELD_REQUIRED, "input"),
        ({"input": "not a time"}, Reason.FIELD_INVALID, "input"),
        ({"input": "30 Mar 2024 10:00 XYZ"}, Reason.FIELD_INVALID, "input"),
        (
            {
                "operation": "convert_timezone",
                "input": "9999-12-31T23:59",
                "target_timezone": "Asia/Tokyo",
            },
            Reason.FIELD_INVALID,
            "input",
        ),
        ({"input": "2024-13-01"}, Reason.FIELD_INVALID, "input"),
        ({"input": "2024-01-01", "timezone": "Mars/Base"}, Reason.FIELD_INVALID, "timezone"),
        ({"input": "999999999999"}, Reason.FIELD_INVALID, "input"),
        ({"input": "1 " * 200}, Reason.LIMIT_EXCEEDED, "input"),
        (
            {"operation": "add", "input": "2024-01-01", "amount": 1, "unit": "moons"},
            Reason.FIELD_INVALID,
            "unit",
        ),
        (
            {"operation": "add", "input": "2024-01-01", "amount": 1.5, "unit": "months"},
            Reason.FIELD_INVALID,
            "amount",
        ),
        (
            {"operation": "add", "input": "2024-01-01", "amount": 9000, "unit": "years"},
            Reason.FIELD_INVALID,
            "amount",
        ),
        ({"operation": "convert_timezone", "input": "0"}, Reason.FIELD_REQUIRED, "target_timezone"),
        ({"operation": "now", "format": "%Q"}, Reason.FIELD_INVALID, "format"),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason, field):
    """The field is named."""
    error = await hand.refusal(NAME, **arguments)
    assert (error.reason, error.metadata["field"]) == (reason, field)
