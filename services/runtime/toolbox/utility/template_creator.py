"""template-creator: texts of templates, by MiniJinja or the core of Handlebars."""

from __future__ import annotations

import re
from typing import Any

import minijinja
import minijinja._internal  # it is loaded where the first error is made, which is in the jail

from services.runtime.toolbox import json_text
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    field_invalid,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.schema import choice, flag, mapping, one_of, record, text, whole
from services.runtime.toolbox.utility import handlebars, template_values, tera_filters

TEMPLATE_BYTES_MAX = 256 * 1024
OUTPUT_BYTES_MAX = handlebars.OUTPUT_BYTES_MAX
FUEL = 200_000
"""Steps of MiniJinja; about one for each instruction of a template."""

_HANDLEBARS_ONLY = re.compile(r"\{\{~?(?:[#/^>]|\{|else\b)|\{\{\s*(?:this|@|\.\./)")


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    source = _source(arguments, desk)
    context = json_text.given(arguments["context"], field="context")
    if not isinstance(context, dict):
        if context:
            raise field_invalid("context", "must be an object")
        context = {}
    engine = arguments.get("engine") or _detected(source, detect=arguments["auto_detect"])
    rendered = handlebars.render(source, context) if engine == "handlebars" else ""
    if engine != "handlebars":
        rendered = _by_minijinja(source, context, like_tera=engine == "tera")
    return Outcome(
        operation="render",
        message=f"Template rendered by {engine}",
        result={
            "rendered": rendered,
            "engine": engine,
            "template_length": len(source),
            "context_size": len(context),
        },
    )


def _source(arguments: Arguments, desk: Desk) -> str:
    if ("input" in arguments) == ("template_file" in arguments):
        if "input" not in arguments:
            raise ToolError("FIELD_REQUIRED", "input or template_file must be set.", field="input")
        raise field_invalid("input", "or template_file must be set, and not both")
    if "input" in arguments:
        source = str(arguments["input"])
        if len(source.encode()) > TEMPLATE_BYTES_MAX:
            raise limit_exceeded("input", len(source.encode()), TEMPLATE_BYTES_MAX, "bytes")
        return source
    path = arguments["template_file"]
    data = desk.folder.read(path, field="template_file", limit=TEMPLATE_BYTES_MAX)
    return data.decode(errors="replace")


def _detected(source: str, *, detect: bool) -> str:
    return "handlebars" if detect and _HANDLEBARS_ONLY.search(source) else "tera"


def _by_minijinja(source: str, context: dict[str, Any], *, like_tera: bool) -> str:
    environment = minijinja.Environment(
        fuel=FUEL,
        debug=False,
        auto_escape_callback=lambda _: False,
        undefined_behavior="lenient",
        finalizer=_as_tera_shows if like_tera else None,
        filters=tera_filters.FILTERS if like_tera else None,
        tests=tera_filters.TESTS if like_tera else None,
    )
    try:
        source = tera_filters.with_pairs(source) if like_tera else source
        rendered = environment.render_str(source, "template", **_values(context))
    except minijinja.TemplateError as error:
        raise _refusal(error) from None
    if len(rendered.encode()) > OUTPUT_BYTES_MAX:
        raise limit_exceeded("output", len(rendered.encode()), OUTPUT_BYTES_MAX, "bytes")
    return rendered


def _values(context: dict[str, Any]) -> dict[str, Any]:
    return {str(name): template_values.shown(value) for name, value in context.items()}


def _as_tera_shows(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _refusal(error: minijinja.TemplateError) -> ToolError:
    if error.kind == "OutOfFuel":
        return limit_exceeded("input", FUEL + 1, FUEL, "steps")
    cause = error.__cause__
    if isinstance(cause, ToolError):
        return cause
    line = f" in line {error.line}" if error.line else ""
    # The first line says it; the others show the template, which the caller has.
    return field_invalid("input", f"cannot be rendered: {str(error.message)[:300]}{line}")


TOOLS = (
    Tool(
        name="template-creator",
        description="Renders a template with a context: Tera, Jinja or Handlebars.",
        category="utility",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES}),
        old_names=("template_engine", "template-engine"),
        synonyms={
            "template": "input",
            "text": "input",
            "content": "input",
            "data": "context",
            "variables": "context",
            "values": "context",
            "path": "template_file",
            "file": "template_file",
        },
        parameters=parameters(
            (),
            input=text("The template."),
            template_file=text("A file that holds it, instead of `input`."),
            context={
                **one_of(
                    mapping("Values by name.", {}),
                    {"type": "array", "maxItems": 0},
                    {"type": "string", "description": "The same as a JSON text."},
                ),
                "default": {},
                "description": "Values by name.",
            },
            engine=choice("Whose language it is in.", "tera", "jinja", "handlebars"),
            auto_detect=flag(
                "Whether the engine is told by the template where it is not named; else tera.",
                default=True,
            ),
        ),
        result=record(
            "",
            ("rendered", "engine", "template_length", "context_size"),
            rendered=text("The text."),
            engine=text("By which engine."),
            template_length=whole("Letters of the template."),
            context_size=whole("Values of the context."),
        ),
        notes="tera and jinja are MiniJinja; for tera with Tera's filters and tests under its "
        "arguments. Unlike Tera: macros are called without `self::`, a missing value is empty "
        "instead of an error, nothing is escaped, and include, extends and import find nothing. "
        "Of Handlebars there are paths, if, unless, each, with, else, comments and escapes; "
        f"helpers, partials and decorators are refused. At most {FUEL} steps and "
        f"{OUTPUT_BYTES_MAX} bytes.",
        run=_run,
    ),
)
