"""Callers with certificates, over TLS: who is known, who is not, and what cannot be forged."""

import datetime as dt

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from llmspell.v1 import tenant_pb2, tenant_pb2_grpc

from services.common.context import current_context
from services.common.door import Door
from services.common.errors import Reason, ServiceError
from services.common.peers import PEER_KEY, PeerName, PeerUnseenError
from services.common.server import new_server
from services.common.telemetry import Counts
from services.gateway.certificates import open_certificates
from tests.unit.gateway.test_auth import World

FILE = """
[[identities]]
name = "spiffe://corp/search"
tenant = "acme"
roles = ["writer"]
scopes = ["vector.read"]

[[identities]]
name = "globex.example.com"
tenant = "globex"
roles = ["reader"]
"""


class Authority:
    """Signs certificates."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._made("authority", self.key, [], ca=True)

    def issue(self, *names):
        """(certificate, key) as PEM, for URIs and DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = serialization.Encoding.PEM
        written = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._made("someone", key, names).public_bytes(pem), written

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def _made(self, common, key, names, *, ca=False):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        signer = name if ca else self.certificate.subject
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(signer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            kinds = [
                x509.UniformResourceIdentifier(each) if "://" in each else x509.DNSName(each)
                for each in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(kinds), critical=False)
        return builder.sign(self.key, hashes.SHA256())


class WhoAmI(tenant_pb2_grpc.TenantServiceServicer):
    """Tells whom the door let in."""

    async def WhoAmI(self, request, context):  # noqa: N802
        caller = current_context()
        return tenant_pb2.WhoAmIResponse(
            principal=caller.principal, tenant_id=caller.tenant, permissions=caller.permissions
        )


@pytest.fixture
async def world(tmp_path):
    """Two tenants with a key each, and two callers with certificates."""
    world = World()
    await world.add("acme", "writer")
    await world.add("globex", "reader")
    file = tmp_path / "identities.toml"
    file.write_text(FILE)
    world.authenticate._certificates = open_certificates(str(file))
    return world


@pytest.fixture
async def served(world):
    """A listener that asks for certificates of an authority."""
    authority = Authority()
    server = new_server(Door(world.authenticate, Counts(), calls_at_once=8))
    tenant_pb2_grpc.add_TenantServiceServicer_to_server(WhoAmI(), server)
    certificate, key = authority.issue("localhost")
    port = server.add_secure_port(
        "localhost:0",
        grpc.ssl_server_credentials([(key, certificate)], authority.pem, require_client_auth=True),
    )
    await server.start()
    yield authority, f"localhost:{port}"
    await server.stop(0)


async def ask(served, names, metadata=(), authority=None):
    ours, address = served
    certificate, key = (authority or ours).issue(*names)
    credentials = grpc.ssl_channel_credentials(ours.pem, key, certificate)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        call = tenant_pb2_grpc.TenantServiceStub(channel).WhoAmI
        return await call(tenant_pb2.WhoAmIRequest(), metadata=metadata, timeout=10)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_a_name_speaks_for_its_tenant(served):
    """With the permissions that the file gives; another name for another tenant."""
    answer = await ask(served, ["spiffe://corp/search", "unknown.example.com"])
    assert (answer.principal, answer.tenant_id) == ("cert/spiffe://corp/search", "acme")
    assert list(answer.permissions) == ["self.read", "vector.read"]
    assert (await ask(served, ["globex.example.com"])).tenant_id == "globex"


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("someone",),
        ("spiffe://corp/search2",),
        ("spiffe://corp/Search",),
        ("x.globex.example.com",),
        ("*.example.com",),
        ("spiffe://corp/search", "globex.example.com"),
    ],
    ids=range(7),
)
async def test_any_other_name_is_nobody(served, names):
    """No prefix, no wildcard, no other case, no common name, and not two at once."""
    assert await refused(ask(served, names)) is grpc.StatusCode.UNAUTHENTICATED


async def test_another_authoritys_certificate_does_not_get_in(served):
    """The transport refuses it."""
    call = ask(served, ["spiffe://corp/search"], authority=Authority())
    assert await refused(call) is grpc.StatusCode.UNAVAILABLE


async def test_a_key_counts_before_the_certificate(served, world):
    """One credential for a call: the one that it sends; a bad one is not made good."""
    bearer = (("authorization", f"Bearer {world.keys['globex']}"),)
    assert (await ask(served, ["spiffe://corp/search"], bearer)).tenant_id == "globex"
    bad = (("authorization", f"Bearer {world.keys['globex']}x"),)
    code = await refused(ask(served, ["spiffe://corp/search"], bad))
    assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_certificate_names_no_other_tenant(served):
    """As a key."""
    call = ask(served, ["spiffe://corp/search"], (("llmspell-tenant", "globex"),))
    assert await refused(call) is grpc.StatusCode.PERMISSION_DENIED


async def test_a_name_that_was_sent_is_none(served, world):
    """What comes over the wire is text, whatever it is called."""
    sent = ((PEER_KEY, "spiffe://corp/search"),)
    assert await refused(ask(served, ["nobody"], sent)) is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(PeerUnseenError):
        await world.ask(*sent)
    shown = (PEER_KEY, PeerName("spiffe://corp/search"))
    known = await world.ask(shown)
    assert (known.tenant, known.roles) == ("acme", ("writer",))


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[[identities]]\nname='a'\ntenant='acme'",
        "[[identities]]\nname='a'\ntenant='_system'\nroles=['reader']",
        "[[identities]]\nname='a'\ntenant='acme'\nroles=['operator']",
        "[[identities]]\nname='a'\ntenant='acme'\nroles=[]",
        "[[identities]]\nname='a b'\ntenant='acme'\nroles=['reader']",
        "[[identities]]\nname='a'\ntenant='acme'\nroles=['reader']\n" * 2,
    ],
)
def test_a_bad_file_is_told(tmp_path, text):
    """At the start."""
    file = tmp_path / "identities.toml"
    file.write_text(text)
    with pytest.raises(ServiceError) as caught:
        open_certificates(str(file))
    assert caught.value.reason == Reason.CONFIG_INVALID
