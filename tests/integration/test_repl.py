"""`llmspell repl` on a real deployment: through a pipe, and at a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][0B]?|\r")
ENTER, TAB, CTRL_C, CTRL_D, UP = b"\r", b"\t", b"\x03", b"\x04", b"\x1b[A"


def piped(deployment, text, *options, tenant="acme"):
    return deployment.cli("repl", *options, tenant=tenant, stdin=text)


def test_pieces_from_a_pipe_share_what_they_leave(deployment):
    """Values are shown, printed text is as it is; globals stay."""
    done = piped(
        deployment, "x = 6\nfor i = 1, 2 do\n  print(i)\nend\nx * 7, 'a'\nJSON.parse('[1]')"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == '1\n2\n42\t"a"\n{\n  1,\n}\n'


def test_an_error_is_told_and_the_rest_goes_on(deployment):
    """With its line; the command's exit code says that there was one."""
    done = piped(
        deployment, "kept = 1\nlocal function f()\n  error('no')\nend f()\nkept\nx = = 1\nf("
    )
    assert done.returncode == 8
    assert done.stdout == "1\n"
    assert "input 5" not in done.stderr
    assert "no\n" in done.stderr
    assert "unexpected symbol near '='" in done.stderr
    assert "not whole" in done.stderr


def test_commands_of_the_prompt(deployment, tmp_path):
    """:load, :reset, :help, :quit, and what is none of them."""
    file = tmp_path / "lib.lua"
    file.write_text("function triple(n) return 3 * n end")
    text = f":load {file}\ntriple(4)\n:reset\ntriple == nil\n:help\n:nonsense\n:quit\nprint('late')"
    done = piped(deployment, text)
    assert done.stdout.startswith("12\ntrue\nLua is run as it is entered")
    assert "late" not in done.stdout
    assert ":nonsense is not a command" in done.stderr


def test_what_is_written_is_the_tenant_s_own(deployment):
    """A prompt has the key's permissions and no other's data."""
    piped(deployment, "State.set('repl-secret', 'acme')")
    assert piped(deployment, "State.get('repl-secret')").stdout == '"acme"\n'
    other = piped(deployment, "State.get('repl-secret')", tenant="globex")
    assert other.stdout == "nil\n"


def test_the_script_may_end_it(deployment):
    """os.exit leaves; a log is on stderr."""
    done = piped(deployment, "Logger.warn('low')\nos.exit()\nprint('late')")
    assert (done.stdout, done.returncode) == ("", 0)
    assert "warn: low" in done.stderr


class Terminal:
    """A person at a terminal."""

    def __init__(self, deployment, history, *words):
        self.seen = b""
        self._pid, self._fd = pty.fork()
        if not self._pid:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
            environment = deployment.environment("acme") | {
                "TERM": "xterm", "PYTHONFAULTHANDLER": "1", "PROMPT_TOOLKIT_NO_CPR": "1",
                "LINES": "40", "NO_COLOR": "1",
            }  # fmt: skip
            # A shell's background jobs, and so their children, do not hear Ctrl-C.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            command = [sys.executable, "-m", "services.gateway.cli.main", *(words or ["repl"])]
            os.execve(command[0], [*command, "--history", str(history)], environment)

    def type(self, keys):
        os.write(self._fd, keys)

    def wait_for(self, text, *, timeout_s=20):
        """Read until a text is there, after what was waited for before."""
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._fd], [], [], max(left, 0))
            assert ready, f"{text!r} is not in {self.seen[-500:]!r}"
            try:
                self.seen += ESCAPES.sub(b"", os.read(self._fd, 65536))
            except OSError:
                raise AssertionError(f"ended before {text!r}: {self.seen!r}") from None
        self.seen = self.seen.partition(text)[2]

    def interrupt(self, told):
        """Press Ctrl-C until it is told that it was heard: between two modes a key may be lost."""
        for _ in range(4):
            time.sleep(1)
            self.type(CTRL_C)
            with contextlib.suppress(AssertionError):
                return self.wait_for(told, timeout_s=8)
        raise AssertionError(f"{told!r} is not in {self.seen[-500:]!r}")

    def end(self, keys=b"", *, timeout_s=30):
        """How it ended; where it does not, what its threads do.

        The keys are typed again: between two prompts the terminal is in its own mode and eats them.
        """
        told, deadline = b"", time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                self.type(keys)
                while select.select([self._fd], [], [], 1)[0]:
                    told += os.read(self._fd, 65536)
            os.kill(self._pid, signal.SIGABRT)
            while True:
                told += os.read(self._fd, 65536)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        assert code != -signal.SIGABRT, told.decode("utf-8", "replace")
        return code

    def close(self):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)


@pytest.fixture
def terminal(deployment, tmp_path):
    made = Terminal(deployment, tmp_path / "history")
    made.wait_for(b">")
    yield made
    made.close()


def test_a_person_at_the_prompt(terminal, tmp_path):
    """Values, many lines, completion, an interrupt that keeps what is defined, and the way out."""
    terminal.type(b"kept = 40 + 2" + ENTER)
    terminal.wait_for(b">")
    terminal.type(b"for i = 1, 2 do" + ENTER + b"print('line', i)" + ENTER + b"end" + ENTER)
    terminal.wait_for(b"line\t1\n")
    terminal.wait_for(b"line\t2\n")
    terminal.wait_for(b">")
    terminal.type(b"JSON.stri" + TAB)
    terminal.wait_for(b"ngify")  # the rest of the name, as it is drawn
    terminal.type(b"({kept})" + ENTER)
    terminal.wait_for(b'"[42]"')
    terminal.wait_for(b">")
    terminal.type(b"while true do end" + ENTER)
    terminal.interrupt(b"interrupted")
    terminal.wait_for(b">")
    terminal.type(b"half of a piece" + CTRL_C)
    time.sleep(1)
    terminal.type(b"kept + 1" + ENTER)
    terminal.wait_for(b"43")
    terminal.wait_for(b">")
    terminal.type(b":quit" + ENTER)
    assert terminal.end() == 0
    history = (tmp_path / "history").read_text()
    assert "+for i = 1, 2 do\n+print('line', i)\n+end\n" in history


def test_the_history_is_there_the_next_time(deployment, tmp_path):
    """Up brings the last piece of the session before."""
    for number in range(2):
        terminal = Terminal(deployment, tmp_path / "history")
        try:
            terminal.wait_for(b">")
            terminal.type(UP + ENTER if number else b"print('re' .. 'membered')" + ENTER)
            terminal.wait_for(b"remembered\n")
            terminal.wait_for(b">")
            assert terminal.end(CTRL_D) == 0
        finally:
            terminal.close()


def test_without_a_server_it_says_so(deployment, tmp_path):
    """One sentence and the exit code of an unreachable server; no prompt that answers nothing."""
    environment = deployment.environment("acme") | {"LLMSPELL_ADDRESS": "127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-m", "services.gateway.cli.main", "repl"],
        input="1 + 1\n", capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 3
    assert "error: " in done.stderr
