"""video-processor: a real film, where ffmpeg is; what is no film."""

import shutil
import subprocess

import pytest
import pytest_asyncio
from PIL import Image

from services.common.errors import Reason
from services.runtime.toolbox.media import ffmpeg
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal, tenant_folder

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed"),
]


def film(path):
    """Two seconds of a test picture with a tone."""
    sources = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=10:duration=2"]
    sources += ["-f", "lavfi", "-i", "sine=frequency=440:duration=2"]
    command = ["ffmpeg", "-v", "error", *sources, "-c:v", "mpeg4", "-c:a", "aac", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of the tenants."""
    return tmp_path_factory.mktemp("tenants")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def video(place, tmp_path_factory):
    """Executes an operation."""
    put(place, "film.mp4", film(tmp_path_factory.mktemp("film") / "film.mp4"))
    put(place, "none.mp4", b"no film" * 100)
    async with open_toolbox(place) as toolbox:

        async def execute(operation, **arguments):
            arguments["operation"] = operation
            return (await toolbox.execute("video-processor", arguments, caller())).result

        yield execute


async def test_what_a_film_is(video):
    """Size, rate, length and how it is encoded."""
    told = await video("metadata", file_path="film.mp4")
    assert told["resolution"] == {"width": 160, "height": 120}
    assert (told["fps"], told["video_codec"], told["audio_codec"]) == (10.0, "mpeg4", "aac")
    assert abs(told["duration_seconds"] - 2.0) < 0.1
    assert told["audio_channels"] == 1
    assert (await video("detect", path="film.mp4"))["supported"] is True
    assert (await video("detect", path="none.mp4"))["supported"] is False


async def test_a_picture_and_the_sound_of_it(video, place):
    """A picture of a moment, small enough; the sound alone."""
    asked = {"file_path": "film.mp4", "target_path": "one.png", "timestamp_seconds": 1}
    await video("thumbnail", **asked, max_width=80)
    with Image.open(tenant_folder(place) / "one.png") as picture:
        assert picture.size == (80, 60)
    done = await video("extract_audio", file_path="film.mp4", target_path="sound.wav")
    assert done["file_size"] > 100_000


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("metadata", {}, Reason.FIELD_REQUIRED),
        ("metadata", {"file_path": "none.mp4"}, Reason.TOOL_FAILED),
        ("metadata", {"file_path": "nothing.mp4"}, Reason.FILE_NOT_FOUND),
        ("metadata", {"file_path": "/etc/passwd"}, Reason.PATH_REFUSED),
        ("thumbnail", {"file_path": "film.mp4"}, Reason.FIELD_REQUIRED),
        ("thumbnail", {"file_path": "film.mp4", "target_path": "x.mp4"}, Reason.FIELD_INVALID),
        (
            "thumbnail",
            {"file_path": "film.mp4", "target_path": "x.png", "timestamp_seconds": 60},
            Reason.FIELD_INVALID,
        ),
        ("extract_audio", {"file_path": "none.mp4", "target_path": "x.wav"}, Reason.TOOL_FAILED),
    ],
)
async def test_what_is_refused_says_why(video, operation, arguments, reason):
    """Each with its reason."""
    assert (await refusal(video(operation, **arguments))).reason == reason


async def test_without_ffmpeg_it_says_so(monkeypatch):
    """The tool is listed all the same, with why it cannot be executed."""
    assert ffmpeg.missing() == ""
    monkeypatch.setattr(ffmpeg, "FFMPEG", None)
    assert ffmpeg.missing() == "ffmpeg is not installed on this machine."
