"""Authorities and certificates for tests, good ones and bad ones."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.common.tls import Certificates, TlsFiles
from services.gateway.cli.authority import Authority, write_pair, write_public

HERE = ("localhost", "127.0.0.1")


def authority(name="a test's authority", **how):
    """A new one."""
    return Authority.make(name, **({"days": 30} | how))


def files(folder, signer, *, name="server", hosts=HERE, client_authority=None, **how):
    """A pair on disk, as a process has it."""
    folder.mkdir(exist_ok=True, parents=True)
    write_pair(folder, signer.issue(name, hosts, **({"days": 30} | how)), signer.pem)
    if client_authority is not None:
        write_public(folder / "clients.crt", client_authority.pem)
    return TlsFiles(
        "public",
        folder / "tls.crt",
        folder / "tls.key",
        folder / "clients.crt" if client_authority is not None else None,
        "gateway.tls_certificate_file",
    )


def certificates(folder, signer, **how):
    """The same, read."""
    return Certificates(files(folder, signer, **how))


def signed_by_itself():
    """A certificate and its key, vouched for by nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "itself")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(days_ago(1))
        .not_valid_after(days_ago(-9))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), written


def trusting(signer, pair=None):
    """What a client has that trusts an authority, with a certificate of its own or without."""
    certificate, key = pair or (None, None)
    return grpc.ssl_channel_credentials(signer.pem, key, certificate)


def days_ago(days):
    """A time."""
    return datetime.now(UTC) - timedelta(days=days)
