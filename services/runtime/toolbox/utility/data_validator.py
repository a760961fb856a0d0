"""data-validator: values against lists of rules, each fault with its place and rule."""

from __future__ import annotations

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Outcome,
    Tool,
    parameters,
)
from services.runtime.toolbox.schema import anything, flag, listing, record, text
from services.runtime.toolbox.utility import validation_rules


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    del desk
    rules = validation_rules.listed(arguments["rules"], field="rules")
    errors = validation_rules.check(arguments.get("input"), rules)
    message = "The input keeps all rules" if not errors else f"{len(errors)} rules are broken"
    return Outcome(
        operation="validate", result={"valid": not errors, "errors": errors}, message=message
    )


TOOLS = (
    Tool(
        name="data-validator",
        description="Checks a value against rules: types, lengths, patterns, dates and shapes.",
        category="utility",
        level=Level.SAFE,
        old_names=("data_validation", "data-validation"),
        synonyms={"data": "input", "value": "input", "schema": "rules"},
        parameters=parameters(
            ("rules",),
            input=anything("The value to check; missing is null."),
            rules={
                "type": ["object", "array"],
                "description": "A list of rules, or `{rules=[…]}`. Each has a `type`: "
                + "; ".join(
                    f"{name} {{{', '.join(known)}}}" if known else name
                    for name, known in validation_rules.PARAMETERS.items()
                )
                + ". A rule may have a `message` of its own.",
            },
        ),
        result=record(
            "",
            ("valid", "errors"),
            valid=flag("Whether all rules are kept."),
            errors=listing(
                f"What is broken, at most {validation_rules.ERRORS_MAX}.",
                record(
                    "",
                    ("field", "value", "rule", "message"),
                    field=text("Where, such as `users[0].name`; `input` is the value itself."),
                    value=anything("What is there; null where it is large."),
                    rule=text("Which rule."),
                    message=text("What is wrong."),
                ),
            ),
        ),
        notes="Rules other than required and type pass over null, and over values of another type "
        f"than theirs. Custom rules: {', '.join(validation_rules.CUSTOM)}.",
        run=_run,
    ),
)
