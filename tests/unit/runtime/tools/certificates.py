"""Certificates of a test's own authority."""

import datetime as dt
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = dt.datetime.now(dt.UTC)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(thing):
    return thing.public_bytes(serialization.Encoding.PEM)


class Authority:
    """An authority of a test's own."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("test authority", self.key, None)
        self.pem = _pem(self.certificate).decode()

    def _sign(self, name, key, alternative, *, begin=-1, days=2):
        starts = NOW + dt.timedelta(days=begin)
        building = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("test authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts)
            .not_valid_after(starts + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(alternative is None, None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if alternative is None:
            usage = x509.KeyUsage(
                digital_signature=True, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False,
            )  # fmt: skip
            building = building.add_extension(usage, critical=True)
        else:
            names = x509.SubjectAlternativeName(alternative)
            building = building.add_extension(names, critical=False)
        return building.sign(self.key, hashes.SHA256())

    def server(self, folder, *names, **more):
        """A server's TLS with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = [x509.DNSName(name) for name in names]
        alternative.append(x509.IPAddress(ipaddress.ip_address("192.0.2.1")))
        certificate = self._sign(names[0], key, alternative, **more)
        path = folder / f"{names[0]}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(private + _pem(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context
