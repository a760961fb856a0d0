"""Certificates of a process: what its listener shows, what it shows to its peers, and both anew.

Files are looked at before each handshake that comes in, and every few seconds for the connections
that go out, so a renewed certificate counts without a restart. What is not whole, such as a key
without its certificate while both are being replaced, is not taken: what was there goes on. One
that has expired is still shown (there is nothing better) and is named in the log and in the
process's status.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from services.common.clock import Clock, SystemClock
from services.common.errors import Reason, ServiceError
from services.common.limits import CERTIFICATE_LOOK_SECONDS, CERTIFICATE_WARN_SECONDS
from services.common.settings import Settings

log = logging.getLogger(__name__)

_SCHEME = re.compile(r"^(unix|unix-abstract|dns|ipv4|ipv6):(?://[^/]*/)?")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificates of one purpose are."""

    purpose: str
    """`public` for the gateway's listener, `inner` between the processes."""
    certificate: Path
    """PEM; the certificate, then what it is signed by but for the authority."""
    key: Path
    """PEM, not encrypted."""
    authority: Path | None
    """PEM of who signs the other side's; None: the other side need not show any."""
    setting: str
    """Name of the first setting, for messages."""


@dataclass(frozen=True, slots=True)
class Pems:
    """The files' content, whole and fitting."""

    certificate: bytes
    key: bytes
    authority: bytes | None
    expire_time: datetime
    """Of the first certificate to expire among those shown and the authorities'."""


class Certificates:
    """The certificates of one purpose, as they are on disk now. Safe to share between threads."""

    def __init__(self, files: TlsFiles, clock: Clock | None = None) -> None:
        """Read them.

        Raises:
            ServiceError: CONFIG_INVALID where one is missing, malformed, or they do not fit.
        """
        self.files = files
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._pems = _read(files)
        self._why_not = ""
        self._told = ""
        self.generation = 0
        """Counts how often they were replaced."""
        self._shown = 0
        """Of those that the listener shows: it is told of others when somebody connects."""
        self.check()

    @property
    def expire_time(self) -> datetime:
        """When the first of them ends."""
        return self._pems.expire_time

    def problem(self) -> str:
        """What somebody should look at, in words; empty: nothing."""
        left_s = self._left_s()
        told = []
        if left_s <= 0:
            told.append(f"expired at {self.expire_time:%Y-%m-%d %H:%M} UTC")
        elif left_s < CERTIFICATE_WARN_SECONDS:
            told.append(f"expires at {self.expire_time:%Y-%m-%d %H:%M} UTC")
        if self._why_not:
            told.append(f"the files of now are not used: {self._why_not}")
        return "; ".join(told)

    def check(self) -> bool:
        """Look whether the files have changed and take them if they are good; whether they were.

        What is wrong is logged, each thing once.
        """
        with self._lock:
            changed = self._take_changed()
            problem = self.problem()
            if problem != self._told:
                self._tell(problem)
            return changed

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a listener; read again before each handshake."""
        self._shown = self.generation
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._fetch,  # type: ignore[arg-type]  # None says that nothing has changed
            require_client_authentication=self.files.authority is not None,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel to a peer: it must be signed by the authority, and so are we."""
        pems = self._pems
        return grpc.ssl_channel_credentials(pems.authority, pems.key, pems.certificate)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by grpc before each handshake, on a thread of its own; must not raise."""
        self.check()
        if self._shown == self.generation:
            return None
        self._shown = self.generation
        return self._configuration()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pems = self._pems
        return grpc.ssl_server_certificate_configuration(
            [(pems.key, pems.certificate)], pems.authority
        )

    def _take_changed(self) -> bool:
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            pems = _read(self.files)
        except ServiceError as error:
            self._why_not = error.message
            return False
        # Kept only now: files that are not whole yet are read again at the next look.
        self._seen, self._pems, self._why_not = stamp, pems, ""
        self.generation += 1
        log.info("certificate replaced", extra=self._extra())
        return True

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        found = (self.files.certificate, self.files.key, self.files.authority)
        return tuple(_file_stamp(path, self.files) for path in found if path is not None)

    def _left_s(self) -> float:
        return self.expire_time.timestamp() - self._clock.now_ns() / 1e9

    def _tell(self, problem: str) -> None:
        self._told = problem
        if not problem:
            return
        expired = self._left_s() <= 0
        say = log.error if expired else log.warning
        say("certificate", extra=self._extra() | {"why": problem})

    def _extra(self) -> dict[str, object]:
        return {
            "purpose": self.files.purpose,
            "certificate_file": str(self.files.certificate),
            "expire_time": self.expire_time.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class ProcessTls:
    """What a process has of certificates."""

    listener: Certificates | None = None
    """Of its port; None: plaintext."""
    inner: Certificates | None = None
    """For calls to other processes, and of the port of every process but the gateway."""
    allow_plaintext: bool = False
    """Whether the port may be plaintext where others than this machine reach it."""
    allow_plain_calls: bool = True
    """Whether other processes may be called in the clear on other machines."""
    setting: str = "deployment"
    """The table of the listener's settings, for messages."""

    def every(self) -> Sequence[Certificates]:
        """Each of them once."""
        found = (self.listener, self.inner)
        return tuple(dict.fromkeys(each for each in found if each is not None))

    async def watch(self) -> None:
        """Look at the files for as long as the process runs."""
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK_SECONDS)
            for each in self.every():
                await asyncio.to_thread(each.check)

    def loops(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What must run beside the server."""
        return (self.watch,) if self.every() else ()


PLAINTEXT = ProcessTls()
"""No certificates, and nothing is refused: for calls inside of one machine."""


def process_tls(settings: Settings, name: str) -> ProcessTls:
    """The certificates of a process, by its name.

    Raises:
        ServiceError: CONFIG_INVALID.
    """
    shared, public = settings.deployment, settings.gateway
    inner = _certificates(
        "inner",
        (shared.tls_certificate_file, shared.tls_key_file, shared.tls_ca_file),
        "deployment.tls_certificate_file",
    )
    if name != "gateway":
        return ProcessTls(inner, inner, shared.allow_plaintext, shared.allow_plaintext)
    listener = _certificates(
        "public",
        (public.tls_certificate_file, public.tls_key_file, public.tls_client_ca_file),
        "gateway.tls_certificate_file",
    )
    return ProcessTls(
        listener, inner, public.allow_plaintext, shared.allow_plaintext, setting="gateway"
    )


def is_local(address: str) -> bool:
    """Whether only this machine reaches an address: a Unix socket, or loopback."""
    scheme = _SCHEME.match(address)
    if scheme and scheme[1].startswith("unix"):
        return True
    host = _SCHEME.sub("", address).rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def is_socket_file(address: str) -> bool:
    """Whether an address is a Unix socket, which is never encrypted."""
    return address.startswith("unix")


def refuse_plaintext(address: str, tls: ProcessTls) -> None:
    """Refuse to listen where keys would travel in the clear.

    Raises:
        ServiceError: CONFIG_INVALID.
    """
    if tls.listener is not None or tls.allow_plaintext or is_local(address):
        return
    table = tls.setting
    raise ServiceError(
        Reason.CONFIG_INVALID,
        f"{address} can be reached by other machines, and there is no certificate: what is sent "
        f"would travel in the clear. Set {table}.tls_certificate_file and {table}.tls_key_file "
        "(`llmspell tls init` makes a pair), listen on 127.0.0.1, or set "
        f"{table}.allow_plaintext = true where the network itself is closed or encrypted.",
        key=f"{table}.tls_certificate_file",
        address=address,
    )


def refuse_plain_call(name: str, address: str, tls: ProcessTls) -> None:
    """Refuse to call another machine in the clear.

    Raises:
        ServiceError: CONFIG_INVALID.
    """
    if tls.inner is not None or tls.allow_plain_calls or is_local(address):
        return
    raise ServiceError(
        Reason.CONFIG_INVALID,
        f"The {name} process at {address} is on another machine, and the processes have no "
        "certificates: calls would travel in the clear. Set deployment.tls_certificate_file, "
        "tls_key_file and tls_ca_file (`llmspell tls init` makes them), or set "
        "deployment.allow_plaintext = true where the network itself is closed or encrypted.",
        key="deployment.tls_certificate_file",
        address=address,
    )


def _certificates(purpose: str, files: tuple[str, str, str], setting: str) -> Certificates | None:
    certificate, key, authority = files
    if not certificate:
        return None
    return Certificates(
        TlsFiles(
            purpose, Path(certificate), Path(key), Path(authority) if authority else None, setting
        )
    )


def _file_stamp(path: Path, files: TlsFiles) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise _unfit(files, path, error.strerror or "it cannot be read") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(files: TlsFiles) -> Pems:
    certificate = _file(files, files.certificate)
    key = _file(files, files.key)
    authority = _file(files, files.authority) if files.authority else None
    chain = _parsed(files, files.certificate, certificate)
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise _unfit(files, files.key, "it is not a private key without a password") from None
    if _public(private.public_key()) != _public(chain[0].public_key()):
        raise _unfit(files, files.key, f"it is not the key of {files.certificate}")
    signers = _parsed(files, files.authority, authority) if files.authority and authority else []
    ends = [each.not_valid_after_utc for each in (*chain, *signers)]
    return Pems(certificate, key, authority, min(ends))


def _parsed(files: TlsFiles, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise _unfit(files, path, "it holds no certificate (PEM)") from None


def _public(key: object) -> bytes:
    written: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every kind of key has it
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return written


def _file(files: TlsFiles, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unfit(files, path, error.strerror or "it cannot be read") from None


def _unfit(files: TlsFiles, path: Path, why: str) -> ServiceError:
    return ServiceError(
        Reason.CONFIG_INVALID,
        f"{path} cannot be used for TLS: {why}.",
        key=files.setting,
        file=path,
    )
