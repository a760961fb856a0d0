"""audio-processor: real sound, conversions, and files that are none."""

import io
import math
import shutil
import struct
import wave

import pytest
import pytest_asyncio

from services.common.errors import Reason
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")


def tone(seconds=1.0, rate=8000):
    """A wav file of one tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(rate)
        count = int(seconds * rate)
        samples = (int(9000 * math.sin(n * 440 * math.tau / rate)) for n in range(count))
        made.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return out.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of the tenants."""
    return tmp_path_factory.mktemp("tenants")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def audio(place):
    """Executes an operation."""
    put(place, "tone.wav", tone())
    put(place, "none.mp3", b"no sound" * 100)
    put(place, "none.wav", b"RIFF....WAVE")
    put(place, "text.txt", b"no sound")
    async with open_toolbox(place) as toolbox:

        async def execute(operation, **arguments):
            arguments["operation"] = operation
            return (await toolbox.execute("audio-processor", arguments, caller())).result

        yield execute


async def test_what_a_file_is(audio):
    """Format, length, rate and channels."""
    told = await audio("metadata", file_path="tone.wav")
    assert told == {
        "format": "wav", "duration_seconds": 1.0, "sample_rate": 8000, "channels": 1,
        "bit_rate": 128000, "bit_depth": 16, "file_size": 16044,
    }  # fmt: skip
    assert (await audio("detect", path="tone.wav"))["supported"] is True
    for name in ("none.wav", "none.mp3", "text.txt"):
        assert (await audio("detect", path=name))["supported"] is False


async def test_wav_becomes_wav_everywhere(audio, place):
    """The same samples, under a header of its own."""
    done = await audio("convert", file_path="tone.wav", target_path="copy.wav")
    assert done["file_size"] == 16044
    assert (tenant_folder(place) / "copy.wav").read_bytes() == tone()


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["mp3", "flac", "ogg"])
async def test_other_formats_with_ffmpeg(audio, ending):
    """What was made is of the format, and as long."""
    done = await audio("convert", file_path="tone.wav", target_path=f"made.{ending}")
    assert done["format"] == ending
    told = await audio("metadata", file_path=f"made.{ending}")
    assert abs(told["duration_seconds"] - 1.0) < 0.2
    back = await audio("convert", file_path=f"made.{ending}", target_path="back.wav")
    assert back["file_size"] > 10_000


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("metadata", {}, Reason.FIELD_REQUIRED),
        ("metadata", {"file_path": "none.wav"}, Reason.TOOL_FAILED),
        ("metadata", {"file_path": "text.txt"}, Reason.TOOL_FAILED),
        ("metadata", {"file_path": "../x.wav"}, Reason.PATH_REFUSED),
        ("metadata", {"file_path": "nothing.wav"}, Reason.FILE_NOT_FOUND),
        ("convert", {"file_path": "tone.wav"}, Reason.FIELD_REQUIRED),
        ("convert", {"file_path": "tone.wav", "target_path": "x.exe"}, Reason.FIELD_INVALID),
        ("convert", {"file_path": "none.wav", "target_path": "x.wav"}, Reason.TOOL_FAILED),
        ("convert", {"file_path": "tone.wav", "target_path": "../x.wav"}, Reason.PATH_REFUSED),
    ],
)
async def test_what_is_refused_says_why(audio, place, operation, arguments, reason):
    """Each with its reason, and nothing is made."""
    assert (await refusal(audio(operation, **arguments))).reason == reason
    assert not (tenant_folder(place) / "x.wav").exists()


@needs_ffmpeg
async def test_a_playlist_reaches_nothing_outside(audio, place):
    """A file that tells ffmpeg to read others gets none that is not the tenant's."""
    (place / "beside.wav").write_bytes(tone())
    put(place, "list.mp3", f"ffconcat version 1.0\nfile {place}/beside.wav\n".encode())
    error = await refusal(audio("convert", file_path="list.mp3", target_path="stolen.flac"))
    assert error.reason == Reason.TOOL_FAILED
    assert not (tenant_folder(place) / "stolen.flac").exists()
