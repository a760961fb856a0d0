"""base64-encoder: RFC 4648, standard and URL-safe alphabets."""

from __future__ import annotations

import base64
import binascii

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    field_invalid,
    parameters,
)


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation, variant = arguments["operation"], arguments["variant"]
    done = _encode(arguments, desk) if operation == "encode" else _decode(arguments, desk)
    output, binary = done
    result = {"output": output, "variant": variant, "binary": binary}
    if "output_file" in arguments:
        data = bytes.fromhex(output) if binary else output.encode()
        desk.folder.write(arguments["output_file"], data, field="output_file")
        result["output_file"] = arguments["output_file"]
    return Outcome(operation=operation, result=result, message=f"{operation}d with {variant}")


def _input(arguments: Arguments, desk: Desk) -> bytes:
    if ("input" in arguments) == ("input_file" in arguments):
        raise field_invalid("input", "or input_file must be set, and not both")
    if "input_file" in arguments:
        return desk.folder.read(arguments["input_file"], field="input_file")
    text: str | bytes = arguments["input"]
    return text.encode() if isinstance(text, str) else text


def _encode(arguments: Arguments, desk: Desk) -> tuple[str, bool]:
    data = _input(arguments, desk)
    if arguments["binary_input"]:
        try:
            data = bytes.fromhex(data.decode())
        except ValueError:
            raise field_invalid("input", "must be hexadecimal digits") from None
    encode = base64.b64encode if arguments["variant"] == "standard" else base64.urlsafe_b64encode
    return encode(data).decode(), False


def _decode(arguments: Arguments, desk: Desk) -> tuple[str, bool]:
    """Text where the bytes are UTF-8, hexadecimal digits otherwise."""
    data = b"".join(_input(arguments, desk).split())
    try:
        padded = data + b"=" * (-len(data) % 4)
        altchars = None if arguments["variant"] == "standard" else b"-_"
        plain = base64.b64decode(padded, altchars=altchars, validate=True)
    except binascii.Error as error:
        raise field_invalid("input", f"is not base64: {error}") from None
    try:
        return plain.decode(), False
    except UnicodeDecodeError:
        return plain.hex(), True


TOOLS = (
    Tool(
        name="base64-encoder",
        description="Encodes text or a file as base64, and decodes it.",
        category="utility",
        level=Level.SAFE,
        needs=frozenset({Need.FILES}),
        synonyms={"text": "input", "data": "input", "content": "input"},
        parameters=parameters(
            ("operation",),
            operation={"enum": ["encode", "decode"], "description": "What to do."},
            variant={
                "enum": ["standard", "url-safe"],
                "default": "standard",
                "description": "Alphabet, RFC 4648 section 4 or 5.",
            },
            input={"type": "string", "description": "Text to encode, or base64 to decode."},
            input_file={"type": "string", "description": "File to read instead of `input`."},
            output_file={"type": "string", "description": "File to write the output to as well."},
            binary_input={
                "type": "boolean",
                "default": False,
                "description": "Whether `input` is bytes as hexadecimal digits.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "output": {"description": "What came of it.", "type": "string"},
                "variant": {"description": "The alphabet.", "type": "string"},
                "binary": {
                    "description": "Whether `output` is bytes as hexadecimal digits.",
                    "type": "boolean",
                },
                "output_file": {"description": "The file that was written.", "type": "string"},
            },
            "required": ["output", "variant", "binary"],
        },
        notes="Decoded bytes that are no UTF-8 come as hexadecimal digits, and `binary` is true.",
        run=_run,
    ),
)
