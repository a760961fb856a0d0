"""Scripts that try to reach this machine and its network through tools, in a real deployment."""

import http.server
import socket
import threading
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from llmspell import Client
from llmspell.types import RunResult, RunStarted

from tests.integration.deployment import deployed, free_port

TRIES = """
local seen = {}
Hook.register("SecurityViolation", function(context) seen[#seen + 1] = context.operation end)
local port, answers = math.tointeger(ARGS[1]), {}
for _, host in ipairs{
  "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]",
  "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "web.test@127.0.0.1", "10.0.0.1",
} do
  local ok, problem = pcall(Tool.execute, "http-requester", {
    input = "http://" .. host .. ":" .. port .. "/", timeout = 5,
  })
  answers[host] = ok and "answered" or problem.reason
end
local checked, problem = pcall(Tool.execute, "service_checker", {host = "127.0.0.1", port = port})
answers.checked = checked and "answered" or problem.reason
return {answers = answers, seen = #seen}
"""


@contextmanager
def canary():
    """A listener on the loopback that keeps who came."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        over = threading.Event()

        def accept():
            while not over.is_set():
                try:
                    connection, address = listening.accept()
                except TimeoutError:
                    continue
                came.append(address)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()[1], came
        finally:
            over.set()
            thread.join()


def test_no_script_reaches_this_machine(deployment):
    """Every spelling is refused, a hook and an event tell of it, and the canary saw nobody."""
    tenant = deployment.tenant("prober")
    with canary() as (port, came), Client(deployment.address, deployment.keys[tenant]) as client:
        events = list(client.run(TRIES, args=[str(port)]))
        (result,) = [event for event in events if isinstance(event, RunResult)]
        (started,) = [event for event in events if isinstance(event, RunStarted)]
        answers = result.value["answers"]
        assert answers.pop("web.test@127.0.0.1") == "FIELD_INVALID"
        assert set(answers.values()) == {"ADDRESS_REFUSED"}, answers
        assert result.value["seen"] >= len(answers)
        told = _violation(client, started.run_id)
        assert told.data["reason"] == "ADDRESS_REFUSED"
    assert came == []


def _violation(client, run_id):
    for _ in range(50):
        for event in client.list_events():
            if (event.type, event.correlation_id) == ("security.violation", run_id):
                return event
        client.poll_events(after=client.poll_events().sequence, wait_s=0.2)
    raise AssertionError("no event tells of it")


class Site(http.server.BaseHTTPRequestHandler):
    """Answers every GET with its path."""

    def do_GET(self):
        """The answer."""
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


class Box:
    """Keeps the mail that comes."""

    def __init__(self):
        self.taken = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - the library's name
        """Take it."""
        self.taken.append(envelope)
        return "250 taken"


@contextmanager
def site():
    """A web server's port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def mail_server():
    """A mail server's port and its box."""
    box = Box()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield controller.port, box
    finally:
        controller.stop()


OPERATED = """
local page = Tool.execute("http-requester", {input = "http://127.0.0.1:" .. ARGS[1] .. "/seen"})
local ok, problem = pcall(Tool.execute, "http-requester", {input = "http://127.0.0.1:" .. ARGS[2]})
local sent = Tool.execute("email-sender", {to = "you@example.org", subject = "S", body = ARGS[3]})
local known, missing = pcall(Tool.execute, "database-connector", {
  database = "shop", engine = "postgresql", query = "SELECT 1",
})
return {page = page.body, other = problem.reason, sent = sent.status, missing = missing.message}
"""


def test_the_operator_opens_what_tools_may_reach(tmp_path):
    """A host with its port, a mail server for its tool alone, a database for its tenant alone."""
    (tmp_path / "databases.toml").write_text(
        f'[shop]\ndsn = "postgresql://me@127.0.0.1:{free_port()}/x"\ntenants = ["acme"]\n'
    )
    with site() as web, mail_server() as (mail, box):
        settings = {
            "LLMSPELL__RUNTIME__ALLOWED_HOSTS": f"127.0.0.1:{web}",
            "LLMSPELL__TOOLS__SMTP_HOST": "127.0.0.1",
            "LLMSPELL__TOOLS__SMTP_PORT": str(mail),
            "LLMSPELL__TOOLS__SMTP_SECURITY": "none",
            "LLMSPELL__TOOLS__SMTP_FROM": "bot@example.org",
            "LLMSPELL__TOOLS__DATABASES_FILE": str(tmp_path / "databases.toml"),
        }
        with deployed(tmp_path, variables=settings) as up:
            answers = {
                tenant: _operated(up, tenant, str(web), str(mail)) for tenant in ("acme", "globex")
            }
    for answer in answers.values():
        assert answer["page"] == "/seen"
        assert answer["other"] == "ADDRESS_REFUSED"
        assert answer["sent"] == "sent"
    assert "cannot be reached" in answers["acme"]["missing"]
    assert "has named no database" in answers["globex"]["missing"]
    assert [b"from acme" in one.content for one in box.taken] == [True, False]


def _operated(up, tenant, web, mail):
    with Client(up.address, up.keys[tenant]) as client:
        events = list(client.run(OPERATED, args=[web, mail, f"from {tenant}"]))
    (result,) = [event for event in events if isinstance(event, RunResult)]
    return result.value
