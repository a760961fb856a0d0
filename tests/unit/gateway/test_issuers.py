"""Tokens of issuers: one that is right, and every way to be wrong."""

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.limits import JWKS_BYTES_MAX, JWKS_OLD_SECONDS, JWKS_RETRY_SECONDS
from services.gateway.issuers import open_issuers
from services.gateway.jwks import KeySet, jwks_source, read_keys

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P384 = ec.generate_private_key(ec.SECP384R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://login.example.com/"


def jwk(key, kid, **more):
    kinds = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    kind = next(made for known, made in kinds.items() if isinstance(key, known))
    return json.loads(kind.to_jwk(key.public_key())) | {"kid": kid} | more


def jwks():
    secret = base64.urlsafe_b64encode(b"s" * 32).decode()
    keys = [
        jwk(RSA, "rsa"),
        jwk(EC, "ec", use="sig", alg="ES256"),
        jwk(ED, "ed"),
        jwk(SMALL, "small"),
        jwk(P384, "p384"),
        jwk(RSA, "for-encryption", use="enc"),
        jwk(RSA, "of-another-algorithm", alg="RS512"),
        {"kty": "oct", "kid": "oct", "k": secret},
        {"kty": "EC", "kid": "broken"},
        {"kty": ["RSA"], "kid": "odd"},
        "no key",
        None,
    ]
    return json.dumps({"keys": keys})


class World:
    """An issuer, as a file names it."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.file, self.keys = folder / "issuers.toml", folder / "jwks.json"
        self.keys.write_text(jwks())
        self.file.write_text(f"""
[[issuers]]
name = "corp"
issuer = "{ISSUER}"
audience = "llmspell"
jwks_file = "jwks.json"
tenant_claim = "org"
tenants = ["acme", "globex"]
roles_claim = "roles"
scopes_claim = "scope"

[[issuers]]
name = "other"
issuer = "other"
audience = "llmspell"
jwks_file = "other.json"
tenant = "acme"
roles = ["reader"]
require_nbf = false
""")
        (folder / "other.json").write_text(json.dumps({"keys": [jwk(STRANGER, "ec")]}))
        self.issuers = open_issuers(str(self.file), self.clock)

    def claims(self, **changes):
        now = self.clock.now_ns() // 10**9
        claims = {
            "iss": ISSUER,
            "sub": "anna",
            "aud": ["x", "llmspell"],
            "exp": now + 300,
            "nbf": now - 1,
            "org": "acme",
            "roles": ["reader", "no-role-of-ours"],
            "scope": "vector.read state.read script.run",
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, key=EC, kid="ec", alg="ES256", headers=None, **changes):
        return jwt.encode(self.claims(**changes), key, alg, {"kid": kid, **(headers or {})})


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def refused(world, text):
    with pytest.raises(ServiceError) as caught:
        await world.issuers.read(text)
    assert caught.value.reason == Reason.CREDENTIAL_INVALID
    assert text[:40] not in caught.value.message


@pytest.mark.parametrize(
    ("key", "kid", "alg"), [(RSA, "rsa", "RS256"), (EC, "ec", "ES256"), (ED, "ed", "EdDSA")]
)
async def test_a_good_one_says_who_calls(world, key, kid, alg):
    """Tenant, principal and what its roles and scopes allow together; ours alone count."""
    context = await world.issuers.read(world.token(key, kid, alg))
    assert (context.tenant, context.principal) == ("acme", "corp/anna")
    assert context.roles == ("reader",)  # policies are about them
    assert context.permissions == ("self.read", "state.read", "vector.read")
    assert context.expires_ns == world.claims()["exp"] * 10**9
    assert not context.any_tenant


async def test_roles_of_the_configuration(world):
    """Where a token says none; nothing narrows them there."""
    text = jwt.encode(
        world.claims(iss="other", roles=["admin"], nbf=None), STRANGER, "ES256", {"kid": "ec"}
    )
    context = await world.issuers.read(text)
    assert (context.tenant, context.principal) == ("acme", "other/anna")
    assert "vector.read" in context.permissions
    assert "vector.write" not in context.permissions


def unsigned(world):
    parts = [{"alg": "none", "typ": "JWT", "kid": "ec"}, world.claims()]
    text = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return (b".".join(text) + b".").decode()


def confused(world):
    """Signed by HS256 with the public key's text as the secret."""
    public = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "rsa"}, world.claims()]
    body = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts
    )
    tag = hmac.new(public, body, hashlib.sha256).digest()
    return (body + b"." + base64.urlsafe_b64encode(tag).rstrip(b"=")).decode()


def tampered(world):
    head, _, tag = world.token().split(".")
    body = base64.urlsafe_b64encode(json.dumps(world.claims(org="globex")).encode())
    return f"{head}.{body.rstrip(b'=').decode()}.{tag}"


BAD = {
    "unsigned": unsigned,
    "HS256 with the public key": confused,
    "HS256 with the issuer's own secret": lambda w: w.token(b"s" * 32, "oct", "HS256"),
    "tampered": tampered,
    "of a stranger's key": lambda w: w.token(STRANGER),
    "of another issuer's key": lambda w: w.token(STRANGER, iss="other", kid="rsa"),
    "kid of another key": lambda w: w.token(EC, "rsa", "ES256"),
    "kid of nobody": lambda w: w.token(kid="nobody"),
    "kid as a path": lambda w: w.token(kid="../../etc/passwd"),
    "kid too long": lambda w: w.token(kid="x" * 5000),
    "key too small": lambda w: w.token(SMALL, "small", "RS256"),
    "another curve": lambda w: w.token(P384, "p384", "ES384"),
    "another algorithm of the key": lambda w: w.token(RSA, "rsa", "RS512"),
    "PSS": lambda w: w.token(RSA, "rsa", "PS256"),
    "key for encryption": lambda w: w.token(RSA, "for-encryption", "RS256"),
    "key of another algorithm": lambda w: w.token(RSA, "of-another-algorithm", "RS256"),
    "no kid": lambda w: jwt.encode(w.claims(), EC, "ES256"),
    "critical header": lambda w: w.token(headers={"crit": ["x"], "x": 1}),
    "another type": lambda w: w.token(headers={"typ": "logout+jwt"}),
    "unknown issuer": lambda w: w.token(iss="https://login.example.com"),
    "no issuer": lambda w: w.token(iss=None),
    "another audience": lambda w: w.token(aud="llmspell2"),
    "no audience": lambda w: w.token(aud=None),
    "no end": lambda w: w.token(exp=None),
    "expired": lambda w: w.token(exp=w.clock.now_ns() // 10**9 - 31),
    "no beginning": lambda w: w.token(nbf=None),
    "not yet": lambda w: w.token(nbf=w.clock.now_ns() // 10**9 + 32),
    "made in the future": lambda w: w.token(iat=w.clock.now_ns() // 10**9 + 3600),
    "no subject": lambda w: w.token(sub=None),
    "odd subject": lambda w: w.token(sub="a b"),
    "no tenant": lambda w: w.token(org=None),
    "tenant of nobody": lambda w: w.token(org="_system"),
    "tenant that it may not name": lambda w: w.token(org="acme2"),
    "tenant in capitals": lambda w: w.token(org="ACME"),
    "tenants": lambda w: w.token(org=["acme"]),
    "too long": lambda w: w.token(padding="x" * 9000),
    "four parts": lambda w: w.token() + ".x",
    "nothing": lambda w: "..",
    "no text": lambda w: "é.é.é",
}


@pytest.mark.filterwarnings("ignore:The RSA key is 1024")
@pytest.mark.parametrize("how", BAD)
async def test_a_bad_one_is_refused(world, how):
    """Whatever is wrong with it."""
    await refused(world, BAD[how](world))


async def test_clocks_may_differ_by_half_a_minute(world):
    """Either way, and no more."""
    now = world.clock.now_ns() // 10**9
    await world.issuers.read(world.token(exp=now - 29))
    await world.issuers.read(world.token(nbf=now + 29))
    await refused(world, world.token(exp=now - 30))


async def test_one_that_was_good_ends_all_the_same(world):
    """What is remembered is the signature, never the claims."""
    text = world.token()
    await world.issuers.read(text)
    world.clock.advance(331)
    await refused(world, text)


async def test_no_role_allows_nothing(world):
    """A token without a role of ours is known, and may nothing."""
    context = await world.issuers.read(world.token(roles=["emperor"]))
    assert context.permissions == ()


async def test_a_new_key_is_found_and_asked_for_once_in_a_while(world):
    """Unknown kids cost one read in 30 seconds, and what is new is found by it."""
    await refused(world, world.token(STRANGER, "new"))
    world.keys.write_text(json.dumps({"keys": [jwk(STRANGER, "new")]}))
    await refused(world, world.token(STRANGER, "new"))
    world.clock.advance(JWKS_RETRY_SECONDS)
    await world.issuers.read(world.token(STRANGER, "new"))
    await refused(world, world.token(sub="another"))


@pytest.mark.parametrize("content", [None, "", "[]", '{"keys": 1}', "x" * 300_000, "[" * 10_000])
async def test_an_outage_keeps_the_keys(world, content):
    """A document that is gone, damaged or too large changes nothing."""
    await world.issuers.read(world.token())
    if content is None:
        world.keys.unlink()
    else:
        world.keys.write_text(content)
    world.clock.advance(JWKS_OLD_SECONDS)
    await world.issuers.read(world.token(sub="another"))


class Answers(BaseHTTPRequestHandler):
    """An issuer's server: good keys, and everything else that one may answer."""

    def do_GET(self):
        """By path."""
        bodies = {"/good": jwks().encode(), "/large": b"x" * 2 * JWKS_BYTES_MAX}
        status = {"/error": 500, "/elsewhere": 302}.get(self.path, 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/good")
        self.end_headers()
        self.wfile.write(bodies.get(self.path, b"{}"))

    def log_message(self, *args):
        """Nothing."""


@pytest.fixture
def web():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def test_keys_come_from_an_address(web, tmp_path):
    """As from a file."""
    keys = KeySet("corp", jwks_source("", f"{web}/good", tmp_path), FakeClock())
    assert (await keys.get("ec")).algorithm == "ES256"


@pytest.mark.parametrize("path", ["error", "elsewhere", "large", "nothing"])
async def test_a_bad_answer_is_no_key(web, tmp_path, path):
    """A status, a redirect, too many bytes, no keys: known ones stay, and no error goes further."""
    source = jwks_source("", f"{web}/{path}", tmp_path)
    if path == "large":
        assert len(await source()) == JWKS_BYTES_MAX + 1
    keys = KeySet("corp", source, FakeClock())
    assert await keys.get("ec") is None


async def test_an_address_that_nobody_answers_is_an_outage(tmp_path):
    """Refused at once, and remembered as tried."""
    keys = KeySet("corp", jwks_source("", "http://127.0.0.1:9/x", tmp_path), FakeClock())
    assert await keys.get("ec") is None


def test_only_public_keys_for_signatures_are_read():
    """No symmetric one, no small one, no private one."""
    assert set(read_keys(jwks().encode())) == {"rsa", "ec", "ed"}
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC)) | {"kid": "private"}
    assert read_keys(json.dumps({"keys": [private]}).encode()) == {}


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[[issuers]]\nname = 'a'",
        "[[issuers]]\nname='a'\nissuer='i'\naudience='a'\njwks_file='f'",
        "[[issuers]]\nname='A'\nissuer='i'\naudience='a'\njwks_file='f'\ntenant='acme'",
        "[[issuers]]\nname='a'\nissuer='i'\naudience='a'\njwks_url='http://x/y'\ntenant='acme'",
        "[[issuers]]\nname='a'\nissuer='i'\naudience='a'\njwks_file='f'\ntenant='a'\nroles=['x']",
        "[[issuers]]\nname='a'\nissuer='i'\naudience='a'\njwks_file='f'\ntenant='a'\nkey='x'",
    ],
)
def test_a_bad_file_is_told(tmp_path, text):
    """At the start, with its name."""
    file = tmp_path / "issuers.toml"
    file.write_text(text)
    with pytest.raises(ServiceError) as caught:
        open_issuers(str(file), FakeClock())
    assert caught.value.reason == Reason.CONFIG_INVALID


def test_no_file_is_no_issuers():
    """Then no such token is taken."""
    assert open_issuers("", FakeClock()) is None
