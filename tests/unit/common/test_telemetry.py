"""Log lines: one JSON object each, whatever was logged."""

import io
import json
import logging
import sys

import pytest

from services.common.telemetry import JsonFormatter, start_logging

KEY = "sk-abcdefghijklmnopqrstuvwxyz012345"


def logged(message, *args, error=None, **extra):
    """The line that a log call makes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("state"))
    logger = logging.Logger("test")  # noqa: LOG001  (one of our own, so that nothing else hears it)
    logger.addHandler(handler)
    logger.error(message, *args, exc_info=error, extra=extra)
    return stream.getvalue()


def test_a_line_says_what_when_where():
    """Time, level, process, event and what was given beside it."""
    line = json.loads(logged("serving %s", "now", pid=7, address="x"))
    assert line["event"] == "serving now"
    assert line["process"] == "state"
    assert line["level"] == "error"
    assert line["pid"] == 7
    assert line["address"] == "x"
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize(
    "text",
    ["a\nb", 'x"}\n{"event":"forged"}', "\r", "\x1b[2J", "\x9b2J", "\u2028", "\x00", "\ud800"],
)
def test_nothing_forges_a_line_or_steers_a_terminal(text):
    """Control characters of both sets, line ends of Unicode and lone surrogates are escaped."""
    raw = logged("x", value=text)
    assert raw.endswith("\n")
    body = raw[:-1]
    assert body.isascii()
    assert body.isprintable()
    assert json.loads(body)["value"] == text


@pytest.mark.parametrize("value", [b"\xff", {1, 2}, 2**100, object(), {("a", 1): 2}, None])
def test_any_value_can_be_logged(value):
    """What has no JSON form is written as text; a log call never fails."""
    assert json.loads(logged("x", value=value))["event"] == "x"


def test_a_cause_is_kept_with_its_trace():
    """An exception's trace goes to the log, in the same line."""
    try:
        int("boom")
    except ValueError as error:
        raw = logged("failed", error=error)
    assert raw.count("\n") == 1
    assert "ValueError: invalid" in json.loads(raw)["cause"]


def test_start_logging_replaces_what_was_there(capsys):
    """Started twice, a line is written once, and the level holds."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    try:
        start_logging("state", "info")
        start_logging("state", "warning")
        logging.getLogger("services.x").info("quiet")
        logging.getLogger("services.x").warning("loud")
    finally:
        root.handlers, root.level = before, level
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["loud"]


def test_credentials_are_not_logged():
    """In the event, in what goes with it, in the trace of an exception, in an object's text."""

    class Shown:
        def __str__(self):
            return "password=hunter2"

    record = logging.makeLogRecord({"msg": "calling with %s", "args": (KEY,)})
    record.shown, record.api_key, record.count = Shown(), "hunter2", 3
    record.inner = {"headers": {"Authorization": "hunter2"}, "urls": [f"x://u:{KEY}@h"]}
    try:
        int(KEY)
    except ValueError:
        record.exc_info = sys.exc_info()
    line = JsonFormatter("state").format(record)
    assert KEY not in line
    assert "hunter2" not in line
    told = json.loads(line)
    assert told["event"] == "calling with [REDACTED]"
    assert (told["api_key"], told["count"]) == ("[REDACTED]", 3)
    assert "ValueError: invalid literal for int() with base 10: '[REDACTED]'" in told["cause"]
