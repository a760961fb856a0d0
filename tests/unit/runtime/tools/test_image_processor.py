"""image-processor: real pictures of each format, and files that are none or too large."""

import io

import pytest
import pytest_asyncio
from PIL import Image

from services.common.errors import Reason
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")


def picture(kind, size=(80, 40), mode="RGB", **more):
    """A picture that is red on its left and blue on its right."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    out = io.BytesIO()
    image.convert(mode).save(out, kind, **more)
    return out.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of the tenants."""
    return tmp_path_factory.mktemp("tenants")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def image(place):
    """Executes an operation."""
    put(place, "two.png", picture("PNG", dpi=(72, 72)))
    put(place, "none.png", b"no picture")
    put(place, "cut.jpg", picture("JPEG", (400, 400))[:300])
    async with open_toolbox(place) as toolbox:

        async def execute(operation, **arguments):
            arguments["operation"] = operation
            return (await toolbox.execute("image-processor", arguments, caller())).result

        yield execute


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM"])
async def test_each_format_is_told_and_made(image, place, kind):
    """A picture of the format is read, and one is made of another."""
    size = (64, 64) if kind == "ICO" else (80, 40)
    put(place, f"in.{kind}", picture(kind, size))
    assert (await image("detect", file_path=f"in.{kind}"))["format"] == kind.lower()
    told = await image("metadata", file_path=f"in.{kind}")
    assert (told["dimensions"]["width"], told["dimensions"]["height"]) == size
    made = await image(
        "convert", file_path="two.png", target_path=f"out-{kind}", target_format=kind.lower()
    )
    assert made["format"] == kind.lower()
    with Image.open(tenant_folder(place) / f"out-{kind}") as result:
        assert result.format == kind


async def test_metadata_of_a_png(image):
    """Colours, size, resolution."""
    told = await image("metadata", path="two.png")
    assert (told["color_mode"], told["bit_depth"], told["frames"]) == ("RGB", 8, 1)
    assert told["dpi"] == [72.01, 72.01]


@pytest.mark.parametrize(
    ("operation", "arguments", "size"),
    [
        ("resize", {"width": 40}, (40, 20)),
        ("resize", {"width": 40, "height": 40}, (40, 20)),
        ("resize", {"width": 40, "height": 40, "maintain_aspect_ratio": False}, (40, 40)),
        ("crop", {"x": 40, "y": 10, "width": 20, "height": 30}, (20, 30)),
        ("rotate", {"degrees": 90}, (40, 80)),
        ("thumbnail", {"max_width": 10, "max_height": 10}, (10, 5)),
        ("convert", {}, (80, 40)),
    ],
)
async def test_changes(image, place, operation, arguments, size):
    """Each change makes a picture of the size that was asked for."""
    made = await image(operation, file_path="two.png", target_path="made.png", **arguments)
    with Image.open(tenant_folder(place) / "made.png") as result:
        assert result.size == size
    assert (made["dimensions"]["width"], made["dimensions"]["height"]) == size


async def test_turning_is_clockwise_and_cropping_where_it_says(image, place):
    """Red, which was left, is above after a turn; the right half is blue."""
    await image("rotate", file_path="two.png", target_path="turned.png", degrees=90)
    with Image.open(tenant_folder(place) / "turned.png") as turned:
        assert turned.getpixel((20, 10)) == (255, 0, 0)
    await image("crop", file_path="two.png", target_path="right.png", x=40)
    with Image.open(tenant_folder(place) / "right.png") as right:
        assert right.getpixel((0, 0)) == (0, 0, 255)


async def test_transparency_becomes_white_where_there_is_none(image, place):
    """A picture with holes as JPEG."""
    out = io.BytesIO()
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(out, "PNG")
    put(place, "holes.png", out.getvalue())
    await image("convert", file_path="holes.png", target_path="whole.jpg")
    with Image.open(tenant_folder(place) / "whole.jpg") as whole:
        assert whole.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("metadata", {"file_path": "none.png"}, Reason.TOOL_FAILED),
        ("convert", {"file_path": "cut.jpg", "target_path": "x.png"}, Reason.TOOL_FAILED),
        ("metadata", {"file_path": "bomb.png"}, Reason.LIMIT_EXCEEDED),
        ("metadata", {}, Reason.FIELD_REQUIRED),
        ("metadata", {"file_path": "../x"}, Reason.PATH_REFUSED),
        ("metadata", {"file_path": "nothing"}, Reason.FILE_NOT_FOUND),
        ("resize", {"file_path": "two.png", "target_path": "x.png"}, Reason.FIELD_REQUIRED),
        ("resize", {"file_path": "two.png", "width": 5}, Reason.FIELD_REQUIRED),
        (
            "resize",
            {"file_path": "two.png", "target_path": "x.png", "width": 20000},
            Reason.LIMIT_EXCEEDED,
        ),
        ("convert", {"file_path": "two.png", "target_path": "x.exe"}, Reason.FIELD_INVALID),
        ("crop", {"file_path": "two.png", "target_path": "x.png", "x": 90}, Reason.FIELD_INVALID),
    ],
)
async def test_what_is_refused_says_why(image, place, operation, arguments, reason):
    """Files that are no pictures, bombs of pixels, and arguments that do not fit."""
    put(place, "bomb.png", picture("PNG", (10_000, 10_000)) if "bomb" in str(arguments) else b"")
    assert (await refusal(image(operation, **arguments))).reason == reason
    assert not (tenant_folder(place) / "x.png").exists()


async def test_detect_says_that_a_file_is_none(image):
    """Which is an answer."""
    assert await image("detect", file_path="none.png") == {
        "file_path": "none.png",
        "format": "png",
        "supported": False,
    }
