"""The email-sender tool, through a real SMTP server on the loopback."""

import asyncio
import contextlib
import email
from email import policy

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from services.common.errors import Reason, ServiceError
from services.runtime.tools.addresses import parse_rules
from services.runtime.tools.network import Network
from tests.unit.runtime.tooling import open_toolbox
from tests.unit.runtime.tools import serving
from tests.unit.runtime.tools.certificates import Authority

MAIL = {"to": "you@example.org", "subject": "Hello", "body": "Text"}


class Box:
    """What the server has taken."""

    def __init__(self):
        self.taken = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.taken.append(envelope)
        return "250 taken"


def _authenticator(server, session, envelope, mechanism, data):
    fits = isinstance(data, LoginPassword) and data == LoginPassword(b"me", b"secret")
    return AuthResult(success=fits, handled=False)


@contextlib.asynccontextmanager
async def mail(*, security="none", tls=None, authority=None, gone=False, **more):
    """A mail server and a toolbox that knows it."""
    box = Box()
    options = {}
    if security == "starttls" and tls:
        options = {"tls_context": tls, "require_starttls": True}
    if more.get("user"):
        options |= {"authenticator": _authenticator, "auth_require_tls": False}
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(box, **options), "127.0.0.1", 0, ssl=tls if security == "tls" else None
    )
    port = server.sockets[0].getsockname()[1]
    told = {"host": "mail.test", "port": port, "security": security, "user": "", "password": "",
            "from": ["bot@example.org", "other@example.org"], **more}  # fmt: skip
    if authority:
        told["authorities"] = authority.pem
    network = Network(
        None,
        resolver=lambda host: ["127.0.0.1"],
        allowed_of_tool={"email-sender": parse_rules(f"mail.test:{port}")},
    )
    if gone:
        server.close()
    settings = {"email-sender": told}
    async with server, open_toolbox(None, network=network, settings=settings) as toolbox:
        yield toolbox, box


async def send(toolbox, **arguments):
    return await serving.execute(toolbox, "email-sender", {**MAIL, **arguments})


async def refusal(toolbox, **arguments):
    with pytest.raises(ServiceError) as caught:
        await send(toolbox, **arguments)
    return caught.value


async def test_mail_arrives(tmp_path):
    """Sender, recipients, subject and both forms of the text, whatever their characters."""
    async with mail() as (toolbox, box):
        done = await send(
            toolbox, to=["You <you@example.org>", "b@example.org"], cc="c@example.org",
            bcc="secret@example.org", subject="Größe 🙂", body="Zeile\n.\nÄ", html="<p>Ä</p>",
        )  # fmt: skip
    (envelope,) = box.taken
    assert envelope.mail_from == "bot@example.org"
    assert envelope.rcpt_tos == [
        "you@example.org", "b@example.org", "c@example.org", "secret@example.org",
    ]  # fmt: skip
    message = email.message_from_bytes(envelope.content, policy=policy.default)
    assert message["Subject"] == "Größe 🙂"
    assert message["From"] == "bot@example.org"
    assert "secret" not in str(message)
    assert message.get_body(("plain",)).get_content().split() == ["Zeile", ".", "Ä"]
    assert message.get_body(("html",)).get_content().strip() == "<p>Ä</p>"
    assert (done.result["status"], done.result["provider"]) == ("sent", "smtp")
    assert done.result["message_id"] == message["Message-ID"]
    assert done.result["refused"] == {}


WRONG = [
    ({"subject": "a\r\nBcc: evil@example.org"}, "subject"),
    ({"subject": "a\nX: y"}, "subject"),
    ({"to": "a@example.org\r\nBcc: evil@example.org"}, "to"),
    ({"to": ["a@example.org, b@example.org"]}, "to"),
    ({"to": "no address"}, "to"),
    ({"to": "<a@example.org"}, "to"),
    ({"to": []}, "to"),
    ({"to": {}, "cc": {}}, "to"),
    ({"to": [f"a{n}@example.org" for n in range(51)]}, "to"),
    ({"cc": 'x" <a@example.org>, y'}, "cc"),
    ({"from": "boss@example.org"}, "from"),
    ({"from": "bot@example.org, other@example.org"}, "from"),
    ({"body": ""}, "body"),
    ({"subject": "x" * 999}, "subject"),
]


async def test_what_would_change_the_mail_is_refused():
    """Lines in headers, wrong addresses, another sender than the deployment's: nothing is sent."""
    async with mail() as (toolbox, box):
        for arguments, field in WRONG:
            assert (await refusal(toolbox, **arguments)).metadata["field"] == field, arguments
    assert not box.taken


async def test_a_password_goes_over_tls_only(tmp_path):
    """STARTTLS with the server's certificate checked, then the password; a wrong one is told."""
    authority = Authority()
    tls = authority.server(tmp_path, "mail.test")
    told = {"security": "starttls", "tls": tls, "authority": authority}
    async with mail(**told, user="me", password="secret") as (toolbox, box):
        await send(toolbox, **{"from": "Bot <OTHER@example.org>"})
        assert box.taken[0].mail_from == "OTHER@example.org"
    async with mail(**told, user="me", password="wrong") as (toolbox, box):
        error = await refusal(toolbox)
        assert error.reason == Reason.TOOL_FAILED
        assert "wrong" not in repr(error)
    async with mail(security="starttls", tls=tls) as (toolbox, box):
        error = await refusal(toolbox)
    assert (error.reason, "certificate" in error.message) == (Reason.HOST_UNREACHABLE, True)
    assert not box.taken


async def test_a_server_without_starttls_is_not_spoken_to_in_the_clear():
    """Somebody between who hides STARTTLS gets neither the password nor the mail."""
    async with mail(security="starttls", user="me", password="secret") as (toolbox, box):
        error = await refusal(toolbox)
    assert (error.reason, "STARTTLS" in error.message) == (Reason.TOOL_FAILED, True)
    assert not box.taken


async def test_tls_from_the_first_byte(tmp_path):
    """As servers on port 465 want it."""
    authority = Authority()
    tls = authority.server(tmp_path, "mail.test")
    async with mail(security="tls", tls=tls, authority=authority) as (toolbox, box):
        await send(toolbox)
    assert len(box.taken) == 1


async def test_refused_recipients_are_named():
    """One of two is taken; where none is, the mail is not sent."""
    async with mail() as (toolbox, box):
        done = await send(toolbox, to="nobody@example.org, you@example.org")
        assert list(done.result["refused"]) == ["nobody@example.org"]
        assert done.result["recipients"] == ["you@example.org"]
        error = await refusal(toolbox, to="nobody@example.org")
    assert error.reason == Reason.TOOL_FAILED
    assert len(box.taken) == 1


async def test_other_ways_are_not_offered_and_no_server_is_invented():
    """Others are refused by name; without a server nothing pretends to have been sent."""
    async with mail() as (toolbox, box):
        for provider in ("sendgrid", "ses"):
            error = await refusal(toolbox, provider=provider)
            assert (error.reason, provider in error.message) == (Reason.NOT_IMPLEMENTED, True)
    assert not box.taken
    async with open_toolbox(None) as toolbox:
        assert (await refusal(toolbox)).reason == Reason.NOT_IMPLEMENTED


async def test_a_server_that_is_gone_is_told():
    """HOST_UNREACHABLE."""
    async with mail(gone=True) as (toolbox, _):
        error = await refusal(toolbox)
    assert error.reason == Reason.HOST_UNREACHABLE
