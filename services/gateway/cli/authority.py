"""A private authority and certificates signed by it: for a laptop, a test, a closed deployment.

Keys are ECDSA on P-256. Each certificate serves both sides of a connection, since the processes
call each other, and names the host that it is for.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_BACKDATE = timedelta(minutes=5)
"""A certificate counts a little earlier than it was made: clocks differ."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str, *, days: float, now: datetime | None = None) -> Authority:
        """A new one that signs itself.

        Args:
            name: Its name, for people.
            days: How long it counts.
            now: When it begins; None: now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        begin = now or datetime.now(UTC)
        certificate = (
            _builder(subject, subject, key, begin, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The one that is in `ca.crt` and `ca.key` of a folder.

        Raises:
            OSError: a file cannot be read.
            ValueError: it is no authority.
        """
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("ca.key is not a key that `llmspell tls init` has made")  # noqa: TRY004
        return cls(certificate, key)

    def issue(
        self, name: str, hosts: Sequence[str], *, days: float, now: datetime | None = None
    ) -> tuple[bytes, bytes]:
        """A certificate and its key, both PEM.

        Args:
            name: Whom it is for, in words.
            hosts: Names and addresses under which it is called.
            days: How long it counts.
            now: When it begins; None: now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        begin = now or datetime.now(UTC)
        certificate = (
            _builder(_name(name), self.certificate.subject, key, begin, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_host(each) for each in hosts]), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM), _pem(key)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path) -> None:
        """Keep it as `ca.crt` and `ca.key`."""
        write_secret(folder / "ca.key", _pem(self.key))
        write_public(folder / "ca.crt", self.pem)


def write_pair(folder: Path, pair: tuple[bytes, bytes], authority: bytes) -> None:
    """Keep a certificate, its key and who signed it, as `tls.crt`, `tls.key` and `ca.crt`.

    Each file is there whole or as it was.
    """
    folder.mkdir(exist_ok=True, mode=0o755)
    write_public(folder / "ca.crt", authority)
    write_secret(folder / "tls.key", pair[1])
    write_public(folder / "tls.crt", pair[0])


def write_public(file: Path, content: bytes) -> None:
    """Anybody may read it."""
    _write(file, content, 0o644)


def write_secret(file: Path, content: bytes) -> None:
    """Its owner alone may read it."""
    _write(file, content, 0o600)


def _write(file: Path, content: bytes, mode: int) -> None:
    aside = file.with_name(f".{file.name}.new")
    descriptor = os.open(aside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
    aside.replace(file)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    days: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _BACKDATE)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
