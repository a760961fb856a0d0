"""A server on loopback that speaks OpenAI's embeddings API, and fails when told to."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Answer = tuple[int, dict[str, Any] | bytes]
"""HTTP status, and the body: an object to send as JSON, or bytes to send as they are."""


@dataclass
class EmbeddingServer:
    """What the server was asked, and what it shall answer before it answers properly."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    failures: list[Answer] = field(default_factory=list)
    """Taken from the front, one a request."""
    change: Callable[[dict[str, Any]], Any] = lambda answer: answer
    """Applied to each proper answer."""
    silent: bool = False
    """Answer nothing until the server ends."""
    base_url: str = ""
    ending: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: dict[str, Any]) -> Answer:
        """The next failure, or the vectors."""
        self.requests.append(request)
        if self.silent:
            self.ending.wait()
        return self.failures.pop(0) if self.failures else (200, self.change(vectors(request)))


def vector_of(text: str, dimension: int) -> np.ndarray:
    """A vector that depends on the text alone; float32 (dimension,), not of length 1."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)


def vectors(request: dict[str, Any]) -> dict[str, Any]:
    """A proper answer; its entries come in reverse, which the API does not forbid."""
    rows = [vector_of(text, request["dimensions"]) for text in request["input"]]
    as_base64 = request.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row).decode() if as_base64 else row.tolist(),
        }
        for index, row in enumerate(rows)
    ]
    tokens = sum(len(text.split()) for text in request["input"])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data[::-1], "model": request["model"], "usage": usage}


@contextmanager
def serve_embeddings() -> Iterator[EmbeddingServer]:
    """Run a server in a thread until the block ends."""
    state = EmbeddingServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.authorizations.append(self.headers["authorization"])
            body = self.rfile.read(int(self.headers["content-length"]))
            known = self.path == "/v1/embeddings"
            status, answer = state.answer(json.loads(body)) if known else (404, b"{}")
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            if not state.ending.is_set():
                self.send(status, content)

        def send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.send_header("retry-after-ms", "1")  # keeps the client's pauses short
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        state.ending.set()
        server.shutdown()
        thread.join()
        server.server_close()
