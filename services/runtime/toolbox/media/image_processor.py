"""image-processor: what a picture is, and pictures made of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.media.paths import ending_of, source_of, target_of, unreadable
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    failed,
    field_invalid,
    limit_exceeded,
    parameters,
)

FILE_BYTES_MAX = 100 * MIB
PIXELS_MAX = 50_000_000
SIDE_MAX = 20_000
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM")
_ENDINGS = {
    "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP",
    "tif": "TIFF", "tiff": "TIFF", "ico": "ICO", "ppm": "PPM",
}  # fmt: skip
_WITHOUT_ALPHA = ("JPEG", "BMP", "PPM")
_EXIF_MAX, _EXIF_LENGTH_MAX = 100, 500
_BITS = {"1": 1, "L": 8, "P": 8, "I": 32, "F": 32, "I;16": 16}
_BITS_OTHERWISE = 8
_QUALITY = 85

assert all(
    (BmpImagePlugin, GifImagePlugin, IcoImagePlugin, JpegImagePlugin, PngImagePlugin,
     PpmImagePlugin, TiffImagePlugin, WebPImagePlugin)
)  # fmt: skip
Image.preinit()
# The pixels are counted below, before any is decoded.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False


@contextmanager
def _opened(arguments: Arguments, desk: Desk) -> Iterator[tuple[Image.Image, int]]:
    """The picture and its file's size; pixels are not decoded yet.

    Raises:
        ToolError: TOOL_FAILED where it is none; LIMIT_EXCEEDED.
    """
    path = source_of(arguments)
    with desk.folder.file(path, field="file_path") as file:
        size = os.fstat(file.fileno()).st_size
        if size > FILE_BYTES_MAX:
            raise limit_exceeded("file_path", size, FILE_BYTES_MAX, "bytes")
        try:
            with Image.open(file, formats=_FORMATS) as image:
                pixels = image.width * image.height
                if pixels > PIXELS_MAX or max(image.size) > SIDE_MAX:
                    raise limit_exceeded("file_path (pixels)", pixels, PIXELS_MAX)
                yield image, size
        except (ToolError, MemoryError):
            raise
        except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError) as error:
            raise failed(f"{path} cannot be read as a picture: {error}.", path=path) from None


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    if operation == "detect":
        result = _detect(arguments, desk)
    elif operation == "metadata":
        with _opened(arguments, desk) as (image, size):
            result = _metadata(image, size)
    else:
        result = _transform(arguments, desk, _CHANGES[operation])
    return Outcome(operation=operation, message=f"{operation} of a picture", result=result)


def _detect(arguments: Arguments, desk: Desk) -> dict[str, Any]:
    path = source_of(arguments)
    try:
        with _opened(arguments, desk) as (image, _):
            return {"file_path": path, "format": str(image.format).lower(), "supported": True}
    except ToolError as error:
        if error.reason != "TOOL_FAILED":
            raise
        return unreadable(path)


def _metadata(image: Image.Image, size: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "format": str(image.format).lower(),
        "dimensions": {"width": image.width, "height": image.height},
        "color_mode": image.mode,
        "bit_depth": _BITS.get(image.mode, _BITS_OTHERWISE),
        "file_size": size,
        "frames": int(getattr(image, "n_frames", 1)),
        "exif": _exif(image),
    }
    dpi = image.info.get("dpi")
    if dpi:
        told["dpi"] = [round(float(each), 2) for each in dpi][:2]
    return told


def _exif(image: Image.Image) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for number, value in list(image.getexif().items())[:_EXIF_MAX]:
        name = ExifTags.TAGS.get(number, str(number))
        if isinstance(value, (int, bool)) and abs(value) < 1 << 63:
            told[name] = value
        elif not isinstance(value, bytes):
            text = str(value).replace("\0", "")[:_EXIF_LENGTH_MAX]
            told[name] = text.encode("utf-8", "replace").decode()
    return told


def _transform(
    arguments: Arguments, desk: Desk, change: Callable[[Image.Image, Arguments], Image.Image]
) -> dict[str, Any]:
    target = target_of(arguments)
    kind = _target_format(arguments, target)
    with _opened(arguments, desk) as (image, _):
        upright = ImageOps.exif_transpose(image)
        changed = _fitting(change(upright, arguments), kind)
        with desk.folder.replacing(target, field="target_path") as file:
            changed.save(file, format=kind, **_how(kind))
            size = file.seek(0, os.SEEK_END)
        return {
            "output_path": target,
            "format": kind.lower(),
            "dimensions": {"width": changed.width, "height": changed.height},
            "original_dimensions": {"width": upright.width, "height": upright.height},
            "file_size": size,
        }


def _how(kind: str) -> dict[str, Any]:
    return {"quality": _QUALITY} if kind in ("JPEG", "WEBP") else {}


def _target_format(arguments: Arguments, target: str) -> str:
    asked = arguments.get("target_format") or ending_of(target)
    kind = _ENDINGS.get(str(asked).lower())
    if kind is None:
        known = ", ".join(sorted(_ENDINGS))
        field = "target_format" if arguments.get("target_format") else "target_path"
        raise field_invalid(field, f"must name one of the formats {known}")
    return kind


def _fitting(image: Image.Image, kind: str) -> Image.Image:
    """With colours that the format can keep."""
    if kind in _WITHOUT_ALPHA and image.mode not in ("RGB", "L", "1"):
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            under = Image.new("RGB", image.size, "white")
            above = image.convert("RGBA")
            under.paste(above, mask=above.getchannel("A"))
            return under
        return image.convert("RGB")
    if kind in ("PNG", "WEBP", "TIFF", "ICO", "GIF") and image.mode in ("CMYK", "YCbCr", "HSV"):
        return image.convert("RGB")
    return image


def _resize(image: Image.Image, arguments: Arguments) -> Image.Image:
    width, height = arguments.get("width"), arguments.get("height")
    if not width and not height:
        raise ToolError("FIELD_REQUIRED", "width or height must be set.", field="width")
    if arguments["maintain_aspect_ratio"] or not (width and height):
        scale = min(
            (width or SIDE_MAX * image.width) / image.width,
            (height or SIDE_MAX * image.height) / image.height,
        )
        width, height = round(image.width * scale), round(image.height * scale)
    width, height = max(width, 1), max(height, 1)
    if width * height > PIXELS_MAX or max(width, height) > SIDE_MAX:
        raise limit_exceeded("width (pixels)", width * height, PIXELS_MAX)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _convert(image: Image.Image, _: Arguments) -> Image.Image:
    image.load()
    return image


def _crop(image: Image.Image, arguments: Arguments) -> Image.Image:
    left, top = arguments["x"], arguments["y"]
    right = left + arguments.get("width", image.width - left)
    bottom = top + arguments.get("height", image.height - top)
    if right > image.width or bottom > image.height or right <= left or bottom <= top:
        rule = f"must lie within the picture, which is {image.width} by {image.height}"
        raise field_invalid("width", rule)
    return image.crop((left, top, right, bottom))


def _rotate(image: Image.Image, arguments: Arguments) -> Image.Image:
    """Clockwise, as people mean it."""
    turned = image.rotate(-arguments["degrees"] % 360, expand=True)
    if turned.width * turned.height > PIXELS_MAX:
        raise limit_exceeded("degrees (pixels)", turned.width * turned.height, PIXELS_MAX)
    return turned


def _thumbnail(image: Image.Image, arguments: Arguments) -> Image.Image:
    small = image.copy()
    small.thumbnail((arguments["max_width"], arguments["max_height"]))
    return small


_CHANGES: dict[str, Callable[[Image.Image, Arguments], Image.Image]] = {
    "resize": _resize,
    "convert": _convert,
    "crop": _crop,
    "rotate": _rotate,
    "thumbnail": _thumbnail,
}
_SIDE = {"type": "integer", "minimum": 1, "maximum": SIDE_MAX}
_PLACE = {"type": "integer", "minimum": 0, "maximum": SIDE_MAX, "default": 0}

TOOLS = (
    Tool(
        name="image-processor",
        description="Tells what a picture is; resizes, converts, crops and rotates pictures.",
        category="media",
        level=Level.SAFE,
        needs=frozenset({Need.FILES}),
        limits=ToolLimits(wall_s=60.0, cpu_s=40, memory_bytes=1024 * MIB, file_bytes=256 * MIB),
        synonyms={
            "input": "file_path",
            "path": "file_path",
            "input_path": "file_path",
            "output_path": "target_path",
            "format": "target_format",
            "angle": "degrees",
        },
        parameters=parameters(
            (),
            operation={
                "enum": ["detect", "metadata", *_CHANGES],
                "default": "metadata",
                "description": "What to do.",
            },
            file_path={"type": "string", "description": "The picture."},
            source_path={"type": "string", "description": "The same."},
            target_path={"type": "string", "description": "Where what is made goes."},
            target_format={
                "type": "string",
                "description": "What is made; without it the target's ending says so.",
            },
            width={**_SIDE, "description": "resize, crop: pixels."},
            height={**_SIDE, "description": "resize, crop: pixels."},
            x={**_PLACE, "description": "crop: pixels left of it."},
            y={**_PLACE, "description": "crop: pixels above it."},
            degrees={"type": "number", "default": 90, "description": "rotate: clockwise."},
            maintain_aspect_ratio={
                "type": "boolean",
                "default": True,
                "description": "resize: fit into width and height instead of filling them.",
            },
            max_width={**_SIDE, "default": 128, "description": "thumbnail: pixels."},
            max_height={**_SIDE, "default": 128, "description": "thumbnail: pixels."},
        ),
        result={
            "type": "object",
            "properties": {
                "file_path": {"description": "The picture.", "type": "string"},
                "format": {"description": "Its format.", "type": "string"},
                "supported": {"description": "Whether it can be read.", "type": "boolean"},
                "dimensions": {"description": "`width` and `height` in pixels.", "type": "object"},
                "original_dimensions": {
                    "description": "The same before the change.",
                    "type": "object",
                },
                "color_mode": {"description": "Such as RGB.", "type": "string"},
                "bit_depth": {"description": "Bits of a pixel in each channel.", "type": "integer"},
                "file_size": {"description": "Bytes.", "type": "integer"},
                "frames": {"description": "Pictures in the file.", "type": "integer"},
                "dpi": {"description": "Dots per inch, across and down.", "type": "array"},
                "exif": {"description": "What the camera noted.", "type": "object"},
                "output_path": {"description": "The picture that was made.", "type": "string"},
            },
        },
        notes="PNG, JPEG, GIF, WebP, BMP, TIFF, ICO and PPM, up to 100 MiB and 50 million pixels. "
        "What is made has the first picture of several, upright, without EXIF.",
        run=_run,
    ),
)
