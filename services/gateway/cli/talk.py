"""An interactive run from the command line's side: a thread keeps the stream, the prompt asks.

The stream is read in a thread of its own so that Ctrl-C reaches the prompt, which then ends the
piece and not the stream.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmspell import Client
    from llmspell.types import InteractAnswer, InteractEvent, InteractInput

_ALIVE_S = 25.0
"""A stream that is silent for a minute loses its place."""
_CHECK_S = 5.0

Tell = Callable[["InteractEvent"], None]


class TalkEnded(Exception):  # noqa: N818 - it may have ended well
    """The run is over: by itself, or by the error that is the cause."""


class Talk:
    """One interactive run; what its pieces leave is gone with it."""

    def __init__(self, client: Client, *, session: str = "") -> None:
        self._inputs: queue.Queue[InteractInput | None] = queue.Queue()
        self._events: queue.Queue[InteractEvent | BaseException | None] = queue.Queue()
        self._client = client
        self._session = session
        self._turn = threading.Lock()
        self._unheard = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for event in self._client.interact(self._given(), name="repl", session=self._session):
                self._events.put(event)
            self._events.put(None)
        except BaseException as error:  # noqa: BLE001 - whoever waits for an answer raises it
            self._events.put(error)

    def _given(self) -> Iterator[InteractInput]:
        from llmspell.types import InteractInput  # noqa: PLC0415  (slow to import)

        while True:
            try:
                given = self._inputs.get(timeout=_ALIVE_S)
            except queue.Empty:
                given = InteractInput("alive")
            if given is None:
                return
            yield given

    def run(self, source: str, tell: Tell) -> InteractAnswer:
        """Run a piece; `tell` is given what it prints and logs. Ctrl-C ends it, twice the run.

        Raises:
            TalkEnded: where the run is over.
        """
        with self._turn:
            self._send("source", source)
            while True:
                try:
                    return self._answer(tell)
                except KeyboardInterrupt:
                    self._send("interrupt")

    def ask(self, kind: str, text: str) -> InteractAnswer:
        """Whether a text is whole (`check`), or which names may end it (`complete`).

        Raises:
            TalkEnded: where the run is over, or takes too long to say.
        """
        with self._turn:  # names are asked for in a thread
            self._send(kind, text)
            return self._answer(lambda _: None, _CHECK_S)

    def close(self) -> None:
        """End it."""
        self._inputs.put(None)
        self._thread.join(_CHECK_S)

    def _send(self, kind: str, text: str = "") -> None:
        from llmspell.types import InteractInput  # noqa: PLC0415  (slow to import)

        self._inputs.put(InteractInput(kind, text))  # type: ignore[arg-type]  # one of its words

    def _answer(self, tell: Tell, most_s: float | None = None) -> InteractAnswer:
        from llmspell.types import InteractAnswer  # noqa: PLC0415  (slow to import)

        while True:
            try:
                event = self._events.get(timeout=most_s)
            except queue.Empty:
                self._unheard += 1
                raise TalkEnded from None
            if event is None:
                self._events.put(None)
                raise TalkEnded
            if isinstance(event, BaseException):
                self._events.put(event)
                raise TalkEnded from event
            if not isinstance(event, InteractAnswer):
                tell(event)
            elif self._unheard:  # the answer to what nobody waited for
                self._unheard -= 1
            else:
                return event
