"""`llmspell top`: what it works out, how it looks at 80 columns, and live in a real terminal."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.gateway.cli.main import app
from services.gateway.cli.top_figures import Reading, figures, quantile
from services.gateway.cli.top_page import draw, draw_away
from tests.fake_deployment import KEY, Deployment, serving

CALL = 'grpc_method="Search",grpc_service="llmspell.v1.VectorService",grpc_type="unary"'


def gateway(*, calls, ok, seconds=0.01, cpu=1.0, below=None, tenants=()):
    """A gateway's metrics after so many calls."""
    below = below or {"0.005": calls, "0.01": calls, "+Inf": calls}
    buckets = "\n".join(
        f'grpc_server_handling_seconds_bucket{{{CALL},le="{bound}"}} {count}'
        for bound, count in below.items()
    )
    told = "\n".join(
        f'llmspell_tenant_{what}_total{{tenant="{name}"}} {number}'
        for name, numbers in tenants
        for what, number in zip(("calls", "refusals", "seconds"), numbers, strict=True)
    )
    return f"""
# TYPE grpc_server_started_total counter
grpc_server_started_total{{{CALL}}} {calls}
# TYPE grpc_server_handled_total counter
grpc_server_handled_total{{{CALL},grpc_code="OK"}} {ok}
grpc_server_handled_total{{{CALL},grpc_code="INTERNAL"}} {calls - ok}
# TYPE grpc_server_handling_seconds histogram
{buckets}
grpc_server_handling_seconds_count{{{CALL}}} {calls}
grpc_server_handling_seconds_sum{{{CALL}}} {seconds}
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total {cpu}
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 104857600
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1000
# TYPE llmspell_ready gauge
llmspell_ready 1
# TYPE llmspell_calls_in_flight gauge
llmspell_calls_in_flight 3
{told}
"""


def page(before, now, seconds=2.0, wall_s=4660.0):
    """The page between two texts of the gateway, and a process that is away."""
    first = Reading.of({"gateway": before, "vector": ""}, 100.0)
    return figures(first, Reading.of({"gateway": now, "vector": ""}, 100.0 + seconds), wall_s)


def text_of(shown, width=80):
    """What a terminal without colours would show."""
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def test_rates_are_of_the_time_between_two_looks():
    """Calls, faults, processor time, tenants; what happened before does not count."""
    tenants = [("acme", (100, 5, 1.0)), ("globex", (7, 0, 1.0))]
    later = [("acme", (140, 25, 3.0)), ("globex", (7, 0, 1.0))]
    found = page(
        gateway(calls=1000, ok=1000, cpu=5.0, tenants=tenants),
        gateway(calls=1020, ok=1010, cpu=6.0, tenants=later),
    )
    own = found.processes[0]
    assert (own.name, own.is_ready, own.in_flight, own.up_s) == ("gateway", True, 3, 3660.0)
    assert (own.calls_a_second, own.faults_a_second, own.cpu_share) == (10, 5, 0.5)
    assert (found.processes[1].name, found.processes[1].is_ready) == ("vector", False)
    [method] = found.methods
    assert (method.name, method.calls_a_second, method.failures_a_second) == (
        "VectorService/Search",
        10,
        5,
    )
    [tenant] = found.tenants
    assert (tenant.name, tenant.calls_a_second, tenant.refusals_a_second) == ("acme", 20, 10)
    assert tenant.mean_s == pytest.approx(0.05)


def test_a_process_that_was_started_again_counts_anew():
    """Its numbers are lower than before; nothing is negative."""
    found = page(gateway(calls=1000, ok=1000, cpu=50), gateway(calls=10, ok=10, cpu=1))
    assert found.processes[0].calls_a_second == 5
    assert found.methods[0].calls_a_second == 5
    assert found.processes[0].cpu_share == 0.5


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 0.005), (0.75, 0.01), (0.625, 0.0075), (1.0, 0.01)]
)
def test_quantiles_are_as_prometheus_estimates_them(share, expected):
    """Between the bounds of the bucket, evenly; beyond the last bound nothing is known."""
    assert quantile([(0.005, 2), (0.01, 3), (float("inf"), 4)], share) == pytest.approx(expected)


def test_no_calls_have_no_quantile():
    """Zero, not an error."""
    assert quantile([], 0.5) == 0
    assert quantile([(0.005, 0), (float("inf"), 0)], 0.99) == 0


def test_a_page_fits_into_80_columns():
    """Also with long names, large numbers and control characters in names."""
    tenants = [(f"t{'x' * 100}{number}", (10**9, 10**8, 10.0)) for number in range(20)]
    found = page(
        gateway(calls=0, ok=0, tenants=[(name, (0, 0, 0)) for name, _ in tenants]),
        gateway(calls=10**9, ok=10**9, tenants=tenants),
    )
    text = text_of(draw(found, "12:00:00"))
    assert max(map(len, text.splitlines())) <= 80
    assert "1 of 2 ready" in text
    assert "1 h 1 m" in text
    assert "away" in text
    assert len([line for line in text.splitlines() if line.startswith("tx")]) == 8
    assert "\x1b" not in text_of(draw_away("gone \x1b[2J", "12:00:00"))


def test_nothing_going_on_is_said():
    """An empty table would look like a fault."""
    text = text_of(draw(page(gateway(calls=5, ok=5), gateway(calls=5, ok=5)), "12:00:00"))
    assert "no calls" in text
    assert "no calls of tenants" in text


@pytest.fixture
def server():
    """A fake deployment's address."""
    deployment = Deployment()
    with serving(deployment) as address:
        yield deployment, address


# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that.
HEEDS_INTERRUPTS = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("services.gateway.cli.main", run_name="__main__", alter_sys=True)
"""


def command(address, *arguments):
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("LLMSPELL")
    }
    environment |= {"LLMSPELL_ADDRESS": address, "LLMSPELL_API_KEY": KEY, "TERM": "xterm-256color"}
    return [sys.executable, "-c", HEEDS_INTERRUPTS, *arguments], environment


def read_until(terminal, wanted, seconds=30.0):
    """What a terminal shows until it has all of these, or the time is over; None: to its end."""
    shown, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline and not (wanted and all(each in shown for each in wanted)):
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:
                break
    return shown


def test_it_is_live_in_a_terminal_and_gives_it_back(server):
    """It draws again and again on a screen of its own; Ctrl-C ends it and leaves the screen."""
    _, address = server
    arguments, environment = command(address, "top", "--every", "0.2")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)  # the command's own are all that is left: its end is the terminal's
    try:
        shown = read_until(ours, [b"\x1b[?1049h", b"LLMSpell top", b"gateway", b"state"])
        assert b"\x1b[?1049h" in shown
        assert b"LLMSpell top" in shown
        again = read_until(ours, [b"LLMSpell top"])
        assert b"LLMSpell top" in again
        process.send_signal(signal.SIGINT)
        last = read_until(ours, None, 60.0)
        assert b"\x1b[?1049l" in last
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_it_waits_for_a_gateway_that_is_away():
    """It says so in the place of the tables, and goes on."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    with serving(Deployment()) as address:
        arguments, environment = command(address, "top", "--every", "0.2")
        process = subprocess.Popen(
            arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        assert b"LLMSpell top" in read_until(ours, [b"LLMSpell top"])
    try:
        assert b"away" in read_until(ours, [b"away"])
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_once_and_json_are_for_programs(server):
    """Plain text without escapes into a pipe; JSON that is JSON."""
    _, address = server
    for arguments in (["top", "--once"], ["top", "--json"]):
        done = CliRunner().invoke(app, arguments, env=command(address)[1])
        assert done.exit_code == 0
        assert "\x1b" not in done.stdout
    told = json.loads(done.stdout)
    assert [each["name"] for each in told["processes"]] == ["gateway", "runtime", "vector", "state"]


def test_health_says_why_a_process_is_not_ready(server):
    """In words, below the table."""
    deployment, address = server
    deployment.not_ready_reasons = ["the state process does not answer"]
    done = CliRunner().invoke(app, ["health"], env=command(address)[1])
    assert "runtime is not ready: the state process does not answer." in done.stdout
