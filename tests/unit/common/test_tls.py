"""Is a connection refused unless both sides show what the other trusts, and do renewals count?"""

import asyncio
import logging
import time

import grpc
import pytest
from llmspell._trust import Trust
from llmspell.errors import from_rpc
from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.clock import FakeClock, SystemClock
from services.common.config import load_settings
from services.common.errors import ServiceError
from services.common.healthcheck import check
from services.common.process import ProcessServicer
from services.common.relay import CHANNEL_OPTIONS, Upstream
from services.common.tls import (
    Certificates,
    ProcessTls,
    TlsFiles,
    is_local,
    process_tls,
    refuse_plaintext,
)
from services.common.vitals import Vitals
from services.gateway.cli.authority import write_pair
from tests.certificates import (
    authority,
    certificates,
    days_ago,
    files,
    signed_by_itself,
    trusting,
)
from tests.servers import Bodies, sealed, serving

DAY_S = 24 * 3600
REQUEST = state_pb2.GetStateRequest(scope="global", key="a")


async def ask(address, credentials, *, timeout_s=2.0):
    """One call; the value, or the client's error."""
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    else:
        channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
    async with channel:
        try:
            stub = state_pb2_grpc.StateServiceStub(channel)
            answer = await stub.GetState(REQUEST, timeout=timeout_s, metadata=sealed())
        except grpc.aio.AioRpcError as error:
            return from_rpc(error, address)
        return answer.item.value.text


SERVERS = {
    "expired": ({"days": 1, "now": days_ago(3)}, "has expired"),
    "not yet": ({"days": 9, "now": days_ago(-3)}, "does not count yet"),
    "wrong name": ({"hosts": ("other.example",)}, "another name"),
    "wrong authority": ({"signer": authority("another")}, "not signed by the authority"),
    "signed by itself": ({"signer": "itself"}, "signed by itself"),
}


@pytest.mark.parametrize("kind", SERVERS)
async def test_client_refuses_a_bad_server(kind, tmp_path):
    """A certificate that is expired, early, of another name or signer: no call, and why is told."""
    trusted = authority()
    how, told = SERVERS[kind]
    how = dict(how)
    signer = how.pop("signer", trusted)
    if signer == "itself":
        write_pair(tmp_path, signed_by_itself(), trusted.pem)
        shown = Certificates(
            TlsFiles("public", tmp_path / "tls.crt", tmp_path / "tls.key", None, "x")
        )
    else:
        shown = certificates(tmp_path, signer, **how)
    async with serving(bodies=Bodies(), certificates=shown) as (address, counts):
        refused = await ask(address, trusting(trusted))
        assert refused.code == "UNAVAILABLE"
        assert told in str(refused)
        assert counts.calls == 0


CALLERS = ("none", "expired", "not yet", "wrong authority", "signed by itself")


@pytest.mark.parametrize("kind", CALLERS)
async def test_server_refuses_a_bad_caller(kind, tmp_path):
    """Where callers must show a certificate: without, or with a bad one, no call gets in."""
    trusted = authority()
    shown = certificates(tmp_path, trusted, client_authority=trusted)
    other = authority("another")
    pair = {
        "none": lambda: None,
        "expired": lambda: trusted.issue("c", ["c"], days=1, now=days_ago(3)),
        "not yet": lambda: trusted.issue("c", ["c"], days=9, now=days_ago(-3)),
        "wrong authority": lambda: other.issue("c", ["c"], days=9),
        "signed by itself": signed_by_itself,
    }[kind]()
    async with serving(bodies=Bodies(), certificates=shown) as (address, counts):
        refused = await ask(address, trusting(trusted, pair))
        assert refused.code == "UNAVAILABLE"
        assert counts.calls == 0
        good = trusted.issue("c", ["c"], days=9)
        assert await ask(address, trusting(trusted, good)) == "a"


async def test_plaintext_is_refused_by_tls_and_the_other_way(tmp_path):
    """A plain caller of an encrypted port gets nothing, and an encrypted one of a plain port."""
    trusted = authority()
    async with serving(bodies=Bodies(), certificates=certificates(tmp_path, trusted)) as (to, seen):
        refused = await ask(to, None)
        assert refused.code == "UNAVAILABLE"
        assert "TLS" in str(refused)
        assert seen.calls == 0
    async with serving(bodies=Bodies()) as (plain, _):
        assert "does not speak TLS" in str(await ask(plain, trusting(trusted)))


async def test_rotation_under_load_fails_no_call(tmp_path):
    """Certificates are replaced twenty times while callers connect anew: every call is answered."""
    trusted = authority()
    where = files(tmp_path, trusted)
    shown = Certificates(where)
    stop = asyncio.Event()
    answers = []

    async def caller(address):
        while not stop.is_set():
            answers.append(await ask(address, trusting(trusted), timeout_s=5.0))

    async with serving(bodies=Bodies(), certificates=shown) as (address, _):
        callers = [asyncio.create_task(caller(address)) for _ in range(4)]
        for _ in range(20):
            pair = trusted.issue("server", ["127.0.0.1"], days=9)
            write_pair(tmp_path, pair, trusted.pem)
            await asyncio.sleep(0.03)
        stop.set()
        await asyncio.gather(*callers)
    assert shown.generation >= 5
    assert len(answers) > 20
    assert set(answers) == {"a"}


async def test_a_channel_goes_on_with_renewed_certificates(tmp_path):
    """Both sides renew under another authority; a relay's upstream calls on without a failure."""
    old, new = authority("old"), authority("new")
    shown = certificates(tmp_path / "server", old, client_authority=old)
    mine = certificates(tmp_path / "caller", old, client_authority=old, name="caller")
    async with serving(bodies=Bodies(), certificates=shown) as (address, _):
        upstream = Upstream("state", address, ProcessTls(inner=mine))
        path = "/llmspell.v1.StateService/GetState"
        send = REQUEST.SerializeToString()
        assert await upstream.unary(path)(send, metadata=sealed())
        files(tmp_path / "server", new, client_authority=new)
        files(tmp_path / "caller", new, client_authority=new, name="caller")
        assert mine.check()
        assert shown.check()  # as the process itself does between handshakes
        assert not mine.check()
        before = upstream.channel
        while upstream.channel is before:
            assert await upstream.unary(path)(send, metadata=sealed(), timeout=5.0)
        assert await upstream.unary(path)(send, metadata=sealed(), timeout=5.0)
        # The proof that the second call used the new ones: the old authority counts no more.
        assert (await ask(address, trusting(old))).code == "UNAVAILABLE"
        await upstream.close()


def test_half_replaced_files_are_not_taken(tmp_path, caplog):
    """A key without its certificate, or an empty file: what was there goes on, and it is told."""
    trusted = authority()
    where = files(tmp_path, trusted)
    shown = Certificates(where)
    before = shown.expire_time
    pair = trusted.issue("server", ["127.0.0.1"], days=9)
    where.key.write_bytes(pair[1])
    assert not shown.check()
    assert "it is not the key of" in shown.problem()
    where.certificate.write_bytes(b"")
    assert not shown.check()
    assert shown.expire_time == before
    where.certificate.write_bytes(pair[0])
    assert shown.check()
    assert shown.expire_time != before
    assert "it is not the key of" not in shown.problem()
    assert any(record.levelno == logging.WARNING for record in caplog.records)


def test_a_certificate_that_expires_while_running_is_told_once(tmp_path, caplog):
    """Two weeks before its end a warning, at its end an error, in the log and in the status."""
    clock = FakeClock(time.time_ns())
    shown = Certificates(files(tmp_path, authority(), days=30), clock)
    told = lambda: [record for record in caplog.records if record.message == "certificate"]  # noqa: E731
    assert shown.problem() == ""
    clock.advance(20 * DAY_S)
    shown.check()
    shown.check()
    assert [record.levelname for record in told()] == ["WARNING"]
    assert shown.problem().startswith("expires at")
    clock.advance(11 * DAY_S)
    shown.check()
    assert [record.levelname for record in told()] == ["WARNING", "ERROR"]
    servicer = ProcessServicer(Vitals("gateway", tls=ProcessTls(listener=shown)), SystemClock())
    (status,) = servicer._own().certificates
    assert status.purpose == "public"
    assert status.problem.startswith("expired at")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True),
        ("unix:/run/x.sock", True), ("unix-abstract:x", True), ("ipv4:127.0.0.1:1", True),
        ("dns:///localhost:1", True), ("0.0.0.0:1", False), ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("state:50063", False), ("dns:///state:1", False), ("localhost.example.org:1", False),
        ("ipv6:[2001:db8::1]:1", False), ("", False),
    ],
)  # fmt: skip
def test_what_only_this_machine_reaches(address, local):
    """Loopback and Unix sockets, in every spelling; nothing else."""
    assert is_local(address) is local


@pytest.mark.parametrize("name", ["gateway", "runtime", "vector", "state"])
def test_plaintext_off_loopback_is_refused_at_start(name):
    """Each process refuses a port that others reach without a certificate, unless told to."""
    settings = load_settings(None, {})
    with pytest.raises(ServiceError, match=r"tls_certificate_file.*allow_plaintext"):
        refuse_plaintext("0.0.0.0:50060", process_tls(settings, name))
    table = "GATEWAY" if name == "gateway" else "DEPLOYMENT"
    allowed = load_settings(None, {f"LLMSPELL__{table}__ALLOW_PLAINTEXT": "true"})
    refuse_plaintext("0.0.0.0:50060", process_tls(allowed, name))


def test_plain_calls_to_other_machines_are_refused():
    """A process calls others in the clear on this machine only."""
    tls = process_tls(load_settings(None, {}), "gateway")
    with pytest.raises(ServiceError, match="travel in the clear"):
        Upstream("state", "state.example:50063", tls)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"GATEWAY__TLS_KEY_FILE": "k"}, "need each other"),
        ({"GATEWAY__TLS_CLIENT_CA_FILE": "k"}, "needs tls_certificate_file"),
        ({"DEPLOYMENT__TLS_CERTIFICATE_FILE": "k"}, "tls_ca_file"),
        (
            {"GATEWAY__TLS_CERTIFICATE_FILE": "/no/c", "GATEWAY__TLS_KEY_FILE": "/no/k"},
            "/no/c cannot be used for TLS: No such file",
        ),
    ],
)
def test_settings_that_cannot_be_are_named(given, told):
    """Half a pair, or files that are not there: an error that says which."""
    with pytest.raises(ServiceError, match=told):
        process_tls(
            load_settings(None, {f"LLMSPELL__{key}": value for key, value in given.items()}),
            "gateway",
        )


async def test_health_check_speaks_tls(tmp_path):
    """A container's health check reaches an encrypted port, and is refused without trust."""
    trusted = authority()
    trusted.write(tmp_path)
    async with serving(certificates=certificates(tmp_path, trusted)) as (address, _):
        trust = Trust(ca_file=str(tmp_path / "ca.crt"))
        assert "UNIMPLEMENTED" in await asyncio.to_thread(check, address, trust=trust)
        assert "UNAVAILABLE" in await asyncio.to_thread(check, address, timeout_s=0.5)
