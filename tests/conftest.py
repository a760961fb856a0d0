"""What every test gets: an environment without the user's settings, properties without a clock."""

import os

# Before usearch, which is otherwise the first to bring parts of libstdc++ into the process: its
# copies then stand for the machine's, and loading onnxruntime crashes. A service loads grpc first.
import grpc  # noqa: F401
import hypothesis
import pytest

from tests.models.local import local_model  # noqa: F401 - a fixture for all

KEPT = {
    "LLMSPELL_ATTACK_SCRIPTS",
    "LLMSPELL_CRASH_FIGURES",
    "LLMSPELL_CRASH_SCALE",
    "LLMSPELL_CRASH_SEED",
    "LLMSPELL_FAULT_SCALE",
    "LLMSPELL_FLOOD_SCALE",
    "LLMSPELL_KILL_SEED",
    "LLMSPELL_MEMORY_SCALE",
}

for name in list(os.environ):
    if (name.startswith("LLMSPELL") and name not in KEPT) or name.endswith("_API_KEY"):
        del os.environ[name]
# onnxruntime would send usage data; no test may reach outside.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# A shared machine's pauses are no failures of the code.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")


@pytest.fixture(autouse=True, scope="session")
def _no_home(tmp_path_factory):
    """No test reads or writes the user's own profile and data."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        yield
