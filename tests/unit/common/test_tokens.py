"""Tokens: what is sealed comes back, for as long and where it was meant, and nothing else does."""

import base64
from dataclasses import replace

import pytest

from services.common.access import METHODS
from services.common.bearers import callers
from services.common.clock import FakeClock
from services.common.context import METADATA_KEY, CallContext, Seal
from services.common.errors import Reason, ServiceError
from services.common.limits import TOKEN_BYTES_MAX
from services.common.tokens import PREFIX, Token, Tokens, narrowed

KEY = b"k" * 32
METHOD = METHODS["/llmspell.v1.VectorService/Search"]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def tokens(clock):
    return Tokens(KEY, clock)


@pytest.fixture
def token(clock):
    context = CallContext(
        tenant="acme",
        principal="k1",
        permissions=("self.read", "vector.read"),
        row_filter=b"rule",
        expires_ns=clock.now_ns() + 60 * 10**9,
    )
    return Token(context=context, audience=("vector",), key_id="k1")


def refused(call):
    with pytest.raises(ServiceError) as caught:
        call()
    assert caught.value.reason == Reason.CREDENTIAL_INVALID
    return caught.value.message


def test_what_is_written_is_read(tokens, token):
    """Context, audience and key come back as they were."""
    assert tokens.read(tokens.write(token), "vector") == token


def test_it_ends(tokens, token, clock):
    """Good to the last nanosecond, and not from its end on."""
    text = tokens.write(token)
    clock.advance(60 - 1e-9)
    tokens.read(text, "vector")
    clock.advance(1e-9)
    assert "expired" in refused(lambda: tokens.read(text, "vector"))


def test_it_is_for_its_audience_alone(tokens, token):
    """Another process refuses it; without an audience all of them take it."""
    text = tokens.write(token)
    for name in ("gateway", "state", "runtime", ""):
        refused(lambda name=name: tokens.read(text, name))
    everywhere = tokens.write(replace(token, audience=()))
    assert tokens.read(everywhere, "state").context == token.context


@pytest.mark.parametrize("position", range(0, 200, 7))
def test_no_altered_one_is_good(tokens, token, position):
    """Any bit of tag or body that changes ends it."""
    text = tokens.write(token)
    raw = bytearray(base64.urlsafe_b64decode(text.removeprefix(PREFIX) + "=="))
    raw[position] ^= 1
    forged = PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    refused(lambda: tokens.read(forged, "vector"))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: text.replace(PREFIX, "LLMT_"),
        lambda text: text.removeprefix(PREFIX),
        lambda text: PREFIX,
        lambda text: PREFIX + "é" * 40,
        lambda text: PREFIX + "A" * TOKEN_BYTES_MAX,
        lambda text: PREFIX + "A" * 43,
    ],
    ids=range(10),
)
def test_what_is_no_token(tokens, token, change):
    """Cut, longer, of another form: one text for one token."""
    refused(lambda: tokens.read(change(tokens.write(token)), "vector"))


def test_another_deployments_is_none(tokens, token, clock):
    """With another key nothing fits."""
    refused(lambda: tokens.read(Tokens(b"x" * 32, clock).write(token), "vector"))


def test_a_sealed_context_is_no_token_and_a_token_no_context(tokens, token, clock):
    """The two have keys of their own, though both come from the deployment's."""
    seal = Seal(KEY, clock)
    sealed = seal.seal(token.context, lifetime_s=60)
    as_token = PREFIX + base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    refused(lambda: tokens.read(as_token, "vector"))
    raw = base64.urlsafe_b64decode(tokens.write(token).removeprefix(PREFIX) + "==")
    with pytest.raises(ServiceError) as caught:
        seal.open(raw)
    assert caught.value.reason == Reason.CONTEXT_INVALID


def test_one_that_is_too_long_is_not_made(tokens, token):
    """It would not get through with the metadata; the caller is told what to do."""
    large = replace(token, context=replace(token.context, row_filter=b"x" * 10_000))
    with pytest.raises(ServiceError) as caught:
        tokens.write(large)
    assert caught.value.reason == Reason.LIMIT_EXCEEDED


def test_narrowing_keeps_who_am_i(token):
    """No scopes change nothing; scopes leave themselves and `self.read`."""
    assert narrowed(token.context, ()) == token.context
    assert narrowed(token.context, ["vector.read"]).permissions == ("self.read", "vector.read")


async def test_a_process_takes_a_token_or_a_seal(tokens, token, clock):
    """Each alone; beside a seal, a token does not count."""
    door = callers(KEY, clock, "vector")
    bearer = ("authorization", f"Bearer {tokens.write(token)}")
    context = await door((bearer,), METHOD)
    assert (context.tenant, context.row_filter) == ("acme", b"rule")
    assert len(context.request_id) == 32
    with pytest.raises(ServiceError) as caught:
        await door((bearer, (METADATA_KEY, b"x" * 60)), METHOD)
    assert caught.value.reason == Reason.CONTEXT_INVALID
    for metadata in ((bearer, bearer), (("authorization", "Bearer llms_a_" + "x" * 43),), ()):
        with pytest.raises(ServiceError) as caught:
            await door(metadata, METHOD)
        assert caught.value.reason == Reason.CONTEXT_INVALID


@pytest.mark.parametrize("named", ["globex", "acme2", "ACME", "_system", "acme "])
async def test_a_bearer_names_no_other_tenant(tokens, token, clock, named):
    """As at the gateway."""
    bearer = ("authorization", f"Bearer {tokens.write(token)}")
    with pytest.raises(ServiceError) as caught:
        await callers(KEY, clock, "vector")((bearer, ("llmspell-tenant", named)), METHOD)
    assert caught.value.reason == Reason.PERMISSION_DENIED
