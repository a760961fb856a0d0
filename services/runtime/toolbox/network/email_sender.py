"""email-sender: mail through the operator's server."""

from __future__ import annotations

import re
import smtplib
import ssl
import time
from collections.abc import Mapping
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Any

from services.runtime.toolbox import clock
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Schema,
    Tool,
    ToolError,
    ToolLimits,
    failed,
    field_invalid,
    field_required,
    limit_exceeded,
    not_implemented,
    parameters,
)
from services.runtime.toolbox.network import calling
from services.runtime.toolbox.network.connections import connect, trust, unreachable

RECIPIENTS_MAX = 50
SUBJECT_LENGTH_MAX = 998
TEXT_LENGTH_MAX = MIB

_ADDRESS = re.compile(
    r"(?:\"?(?P<name>[^\"<>@,;:\\\x00-\x1f\x7f]{0,200})\"?\s*<)?"
    r"(?P<address>[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253})>?"
)
_DOMAIN = "llmspell.invalid"
"""Of message ids where the sender's own cannot be had, and of the greeting."""


class _Connected(smtplib.SMTP):
    """SMTP over a connection of the host's."""

    def __init__(self, desk: Desk, until: float, *, tls: ssl.SSLContext | None) -> None:
        super().__init__(local_hostname=_DOMAIN)
        self._desk, self._until, self._tls = desk, until, tls
        host, port = desk.settings["host"], desk.settings["port"]
        self._host = host  # the name that STARTTLS checks
        code, text = self.connect(host, port)
        if code != 220:  # noqa: PLR2004 - RFC 5321
            raise smtplib.SMTPConnectError(code, text)

    def _get_socket(self, host: str, port: int, timeout: float | None) -> Any:
        del timeout
        timed = connect(self._desk, host, port, self._until)
        if self._tls is None:
            return timed
        return self._tls.wrap_socket(timed, server_hostname=host)


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    if arguments["provider"] != "smtp":
        raise not_implemented(f"email-sender has no {arguments['provider']}; it has smtp.")
    if not desk.settings.get("host"):
        raise not_implemented("This deployment has no mail server: tools.smtp_host.")
    sender = _sender(arguments, desk.settings)
    groups = {name: _addresses(arguments[name], name) for name in ("to", "cc", "bcc")}
    recipients = [address for group in groups.values() for _, address in group]
    if not recipients:
        raise field_invalid("to", "must name a recipient")
    if len(recipients) > RECIPIENTS_MAX:
        raise limit_exceeded("to", len(recipients), RECIPIENTS_MAX, "recipients")
    message = _message(arguments, sender, groups)
    refused = _send(desk, arguments["timeout"], sender[1], recipients, message)
    result = {
        "provider": "smtp",
        "status": "sent",
        "message_id": str(message["Message-ID"]),
        "timestamp": clock.now().isoformat(),
        "recipients": [address for address in recipients if address not in refused],
        "refused": refused,
    }
    return Outcome(operation="send", result=result, message=f"Sent to {len(recipients)}")


def _sender(arguments: Arguments, settings: Mapping[str, Any]) -> tuple[str, str]:
    allowed: list[str] = settings["from"]
    given = arguments.get("from") or (allowed[0] if allowed else "")
    if not given:
        raise field_required("from")
    found = _addresses(given, "from")
    if len(found) != 1:
        raise field_invalid("from", "must be one address")
    if allowed and found[0][1].lower() not in {_plain(one).lower() for one in allowed}:
        raise field_invalid("from", "is no address that this deployment sends from")
    return found[0]


def _plain(text: str) -> str:
    return _addresses(text, "from")[0][1]


def _addresses(given: str | list[str], field: str) -> list[tuple[str, str]]:
    """Name and address of each; commas stand between those of a text."""
    texts = given.split(",") if isinstance(given, str) else list(given)
    found = []
    for text in texts:
        if not text.strip() and isinstance(given, str):
            continue
        match = _ADDRESS.fullmatch(text.strip())
        if match is None or (match["name"] is None) == text.strip().endswith(">"):
            raise field_invalid(field, "must be addresses such as a@example.org")
        found.append(((match["name"] or "").strip(), match["address"]))
    return found


def _message(
    arguments: Arguments, sender: tuple[str, str], groups: Mapping[str, list[tuple[str, str]]]
) -> EmailMessage:
    subject = arguments["subject"]
    if len(subject) > SUBJECT_LENGTH_MAX:
        raise limit_exceeded("subject", len(subject), SUBJECT_LENGTH_MAX, "characters")
    if not subject.replace("\t", "").isprintable():
        raise field_invalid("subject", "must be one line of printable characters")
    message = EmailMessage(policy=SMTP)
    message["From"] = _shown([sender])
    for name in ("To", "Cc"):
        if groups[name.lower()]:
            message[name] = _shown(groups[name.lower()])
    message["Subject"] = subject
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = make_msgid(domain=sender[1].rpartition("@")[2] or _DOMAIN)
    _fill(message, arguments)
    return message


def _shown(addresses: list[tuple[str, str]]) -> str:
    return ", ".join(f'"{name}" <{address}>' if name else address for name, address in addresses)


def _fill(message: EmailMessage, arguments: Arguments) -> None:
    texts = {name: arguments.get(name) for name in ("body", "html")}
    if not any(texts.values()):
        raise ToolError("FIELD_REQUIRED", "body must be set, or html.", field="body")
    for name, text in texts.items():
        if text is not None and len(text) > TEXT_LENGTH_MAX:
            raise limit_exceeded(name, len(text), TEXT_LENGTH_MAX, "characters")
    if texts["body"]:
        message.set_content(texts["body"])
        if texts["html"]:
            message.add_alternative(texts["html"], subtype="html")
    else:
        message.set_content(texts["html"], subtype="html")


def _send(
    desk: Desk, timeout_s: float, sender: str, recipients: list[str], message: EmailMessage
) -> dict[str, str]:
    """Recipients that the server refused, and why."""
    host = desk.settings["host"]
    try:
        return _spoken(desk, time.monotonic() + timeout_s, sender, recipients, message)
    except smtplib.SMTPRecipientsRefused as error:
        raise failed(f"{host} refuses every recipient.", recipients=len(error.recipients)) from None
    except smtplib.SMTPAuthenticationError:
        raise failed(f"{host} does not accept this deployment's password.") from None
    except (smtplib.SMTPNotSupportedError, smtplib.SMTPResponseException) as error:
        raise failed(f"{host} refuses: {_said(error)}.") from None
    except ssl.SSLCertVerificationError as error:
        raise unreachable(host, f"its certificate does not fit: {error.verify_message}") from None
    except (OSError, smtplib.SMTPException, UnicodeError) as error:
        text = str(error)[:200] or type(error).__name__
        raise unreachable(host, text) from None


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        return f"{error.smtp_code} {' '.join(plain.split())[:300]}"
    return str(error)[:300]


def _spoken(
    desk: Desk, until: float, sender: str, recipients: list[str], message: EmailMessage
) -> dict[str, str]:
    settings = desk.settings
    context = trust(desk)
    tls = context if settings["security"] == "tls" else None
    with _Connected(desk, until, tls=tls) as server:
        if settings["security"] == "starttls":
            server.starttls(
                context=context
            )  # refused where the server has none: never in the clear
        if settings["user"]:
            server.login(settings["user"], settings["password"])
        refused = server.send_message(message, sender, recipients)
    return {
        address: f"{code} {text.decode('utf-8', 'replace')[:200]}"
        for address, (code, text) in refused.items()
    }


def _warm_up() -> None:
    """Load what the library loads late, which nothing can be in the jail."""
    message = EmailMessage(policy=SMTP)
    message["From"] = message["To"] = '"Zoë" <a@example.org>'
    message["Subject"] = "é" * 200
    message.set_content("é\r\n" * 3)
    message.add_alternative("<p>é" + "x" * 2000, subtype="html")
    message.as_bytes()


_warm_up()


def _addressees(text: str, *, required: bool = False) -> Schema:
    rule: dict[str, Any] = {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}},
            {"type": "object", "maxProperties": 0},  # an empty table of Lua
        ],
        "description": text,
    }
    return rule if required else {**rule, "default": []}


TOOLS = (
    Tool(
        name="email-sender",
        description="Sends mail through the server that this deployment has.",
        category="api",
        level=Level.RESTRICTED,
        needs=frozenset({Need.NETWORK}),
        old_names=("email_sender",),
        synonyms={"recipient": "to", "recipients": "to", "text": "body", "input": "body"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("to", "subject"),
            **{
                "from": {
                    "type": "string",
                    "description": "Sender; without it, the deployment's. An address, or a name "
                    "and <address>.",
                }
            },
            to=_addressees("Recipients: a list, or a text with commas.", required=True),
            cc=_addressees("Recipients of a copy."),
            bcc=_addressees("Recipients of a copy whom the others do not see."),
            subject={"type": "string", "description": "Subject, one line."},
            body={"type": "string", "description": "Text of the mail."},
            html={"type": "string", "description": "The same as HTML."},
            provider={
                "enum": ["smtp", "sendgrid", "ses"],
                "default": "smtp",
                "description": "How to send; only smtp is offered.",
            },
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "provider": {"description": "How it was sent.", "type": "string"},
                "status": {"description": "`sent`.", "const": "sent"},
                "message_id": {"description": "The Message-ID of the mail.", "type": "string"},
                "timestamp": {"description": "When, RFC 3339.", "type": "string"},
                "recipients": {
                    "description": "Addresses that the server took.",
                    "type": "array",
                    "items": {"type": "string"},
                },
                "refused": {
                    "description": "What the server said of others, by address.",
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                },
            },
            "required": ["provider", "status", "message_id", "timestamp", "recipients", "refused"],
        },
        notes="Without `tools.smtp_host` in the operator's settings it answers NOT_IMPLEMENTED. "
        "`sent` means that the server has taken it. At most 50 recipients.",
        run=_run,
    ),
)
