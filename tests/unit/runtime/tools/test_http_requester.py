"""The http-requester tool and the HTTP client below it, against real servers on the loopback."""

import asyncio
import gzip
import json
import zlib

import pytest
import pytest_asyncio

from services.common.errors import Reason, ServiceError
from tests.unit.runtime.tooling import caller, open_toolbox
from tests.unit.runtime.tools import serving
from tests.unit.runtime.tools.serving import answer, leading_here, moved, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox():
    """The real tools, whose network leads to `*.test` only."""
    async with open_toolbox(None, network=leading_here()) as toolbox:
        yield toolbox


async def request(toolbox, address, **arguments):
    return await serving.execute(toolbox, "http-requester", {"input": address, **arguments})


async def refusal(toolbox, address, **arguments):
    with pytest.raises(ServiceError) as caught:
        await request(toolbox, address, **arguments)
    return caught.value


async def test_a_request_arrives_as_it_was_meant(toolbox):
    """Method, path, query, headers and body reach the server, and its answer the caller."""
    async with serve({"/a%20b?q=1": answer({"ok": True}, 201, x_more="yes")}) as web:
        done = await request(
            toolbox,
            web.url("/a%20b?q=1#part"),
            method="POST",
            headers={"X-Mine": "1", "X-Number": 5},
            body={"name": "Zoë", "list": [1, 2]},
        )
    (asked,) = web.asked
    assert (asked.method, asked.target) == ("POST", "/a%20b?q=1")
    assert json.loads(asked.body) == {"name": "Zoë", "list": [1, 2]}
    assert asked.headers["content-type"] == "application/json"
    assert (asked.headers["x-mine"], asked.headers["x-number"]) == ("1", "5")
    assert asked.headers["host"] == f"web.test:{web.port}"
    assert done.result["status_code"] == 201
    assert done.result["headers"]["x-more"] == "yes"
    assert json.loads(done.result["body"]) == {"ok": True}
    assert done.metadata["method"] == "POST"
    assert done.metadata["attempts"] == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_every_method_is_sent(toolbox, method):
    """Also by the tool's old name and the old name of its parameter."""
    async with serve({"/": answer(b"" if method == "HEAD" else b"fine")}) as web:
        arguments = {"url": web.url(), "method": method}
        done = await toolbox.execute("http_request", arguments, caller())
    assert web.asked[0].method == method
    assert done.result["status_code"] == 200


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"type": "basic", "username": "me", "password": "p:w"}, "authorization", "Basic bWU6cDp3"),
        ({"type": "bearer", "token": "abc"}, "authorization", "Bearer abc"),
        ({"type": "api_key", "key": "k"}, "x-api-key", "k"),
        ({"type": "api_key", "key": "k", "header": "X-Token"}, "x-token", "k"),
        ({"type": "none"}, "authorization", None),
    ],
)
async def test_credentials_stay_with_their_origin(toolbox, auth, header, value):
    """They are sent where the caller said, and never where a redirect leads."""
    async with serve({"/": answer(b"theirs")}) as other:
        answers = {"/": moved("/next"), "/next": moved(other.url(host="other.test"))}
        async with serve(answers) as web:
            done = await request(toolbox, web.url(), auth=auth, headers={"Cookie": "a=b"})
    assert [asked.headers.get(header) for asked in web.asked] == [value, value]
    assert header not in other.asked[0].headers
    assert "cookie" not in other.asked[0].headers
    assert done.result["body"] == "theirs"
    assert done.metadata["redirects"] == [web.url(), web.url("/next")]


async def test_a_redirect_changes_the_method_as_browsers_do(toolbox):
    """303 and a POST's 302 become GET without a body; 307 repeats it."""
    for status, method, body in ((303, "GET", b""), (302, "GET", b""), (307, "POST", b"text")):
        async with serve({"/": moved("/to", status), "/to": answer(b"")}) as web:
            await request(toolbox, web.url(), method="POST", body="text")
        assert (web.asked[1].method, web.asked[1].body) == (method, body)


async def test_redirects_are_counted_and_may_be_refused(toolbox):
    """A loop ends; without following, the redirect itself is the answer."""
    async with serve({"/": moved("/")}) as web:
        error = await refusal(toolbox, web.url(), max_redirects=3)
        assert (error.reason, error.metadata["field"]) == (Reason.LIMIT_EXCEEDED, "redirects")
        assert len(web.asked) == 4
        done = await request(toolbox, web.url(), follow_redirects=False)
    assert done.result["status_code"] == 302
    assert done.result["headers"]["location"] == "/"


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data/", "http://127.1/",
        "http://[::ffff:127.0.0.1]:{port}/", "http://2130706433:{port}/", "//localhost:{port}/",
        "http://web.test@127.0.0.1:{port}/", "http://0x7f.0.0.1:{port}/", "http://[::1]:{port}/",
        "http://internal.example/",
    ],
)  # fmt: skip
async def test_a_redirect_inside_is_refused(toolbox, to):
    """A server that points at the loopback or at metadata leads nowhere, and nobody is asked."""
    async with serve({}) as web:
        web.answers["/"] = moved(to.format(port=web.port))
        error = await refusal(toolbox, web.url())
    odd = "@" in to
    assert error.reason == (Reason.TOOL_FAILED if odd else Reason.ADDRESS_REFUSED)
    assert len(web.asked) == 1


@pytest.mark.parametrize("to", ["file:///etc/passwd", "gopher://web.test/", "//a b/"])
async def test_a_redirect_to_what_is_no_web_page_is_not_followed(toolbox, to):
    """It is the server's fault and not the caller's."""
    async with serve({"/": moved(to)}) as web:
        assert (await refusal(toolbox, web.url())).reason == Reason.TOOL_FAILED


async def test_headers_of_one_name_are_joined(toolbox):
    """None of them is lost."""
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: 1\r\nx-a: 2\r\n\r\n"
    async with serve({"/": said}) as web:
        assert (await request(toolbox, web.url())).result["headers"]["x-a"] == "1, 2"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://127.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/", "http://2130706433:{port}/",
        "http://0177.0.0.1:{port}/", "http://169.254.169.254/", "http://ⓛocalhost:{port}/",
    ],
)  # fmt: skip
async def test_an_address_inside_is_refused(toolbox, address):
    """In every spelling, with the host named and nothing told of what listens there."""
    async with serve({}) as web:
        error = await refusal(toolbox, address.format(port=web.port))
    assert error.reason == Reason.ADDRESS_REFUSED
    assert error.metadata["host"]
    assert not web.asked


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"input": "ftp://web.test/"}, "input"),
        ({"input": "file:///etc/passwd"}, "input"),
        ({"input": "web.test"}, "input"),
        ({"input": "http://"}, "input"),
        ({"input": "http://web.test:99999/"}, "input"),
        ({"input": "http://me:secret@web.test/"}, "input"),
        ({"input": "http://web.test\\@127.0.0.1/"}, "input"),
        ({"input": "http://web.test/\r\nX: y"}, "input"),
        ({"input": "http://[fe80::1%25eth0]/"}, "input"),
        ({"headers": {"X": "a\r\nEvil: b"}}, "headers.X"),
        ({"headers": {"X\n": "a"}}, "headers"),
        ({"headers": {"Host": "127.0.0.1"}}, "headers.Host"),
        ({"headers": {"transfer-encoding": "chunked"}}, "headers.transfer-encoding"),
        ({"headers": {"X": "€"}}, "headers.X"),
        ({"auth": {"type": "bearer", "token": "a\r\nb"}}, "auth.Authorization"),
        ({"auth": {"type": "basic", "username": "a:b", "password": "c"}}, "auth.username"),
        ({"auth": {"type": "bearer"}}, "auth.token"),
        ({"body": {"a": b"\xff"}}, "body"),
        ({"body": [float("inf")]}, "body"),
        ({"method": "CONNECT"}, "method"),
        ({"timeout": 0}, "timeout"),
        ({"retry": {"max_attempts": 99}}, "retry.max_attempts"),
    ],
)
async def test_wrong_arguments_are_refused_by_name(toolbox, arguments, field):
    """Nothing is sent that two readers could understand differently."""
    error = await refusal(toolbox, **{"address": "http://web.test/", **_renamed(arguments)})
    assert error.reason in (Reason.FIELD_INVALID, Reason.FIELD_REQUIRED)
    assert error.metadata["field"] == field


def _renamed(arguments):
    return {("address" if name == "input" else name): value for name, value in arguments.items()}


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ("gzip", lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:])),
    ],
)
async def test_a_packed_body_is_unpacked(toolbox, encoding, pack):
    """gzip, several members of it, zlib and bare deflate."""
    async with serve({"/": answer(pack(b"hello world"), content_encoding=encoding)}) as web:
        done = await request(toolbox, web.url())
    assert done.result["body"] == "hello world"


async def test_a_body_that_unpacks_to_much_is_stopped(toolbox):
    """A bomb of 1 GB in 1 MB ends at the limit; so does a body that never ends."""
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(256)) + bomb.flush()

    async def endless(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with serve({"/": answer(packed, content_encoding="gzip"), "/endless": endless}) as web:
        for path in ("/", "/endless"):
            error = await refusal(toolbox, web.url(path))
            assert (error.reason, error.metadata["field"]) == (Reason.LIMIT_EXCEEDED, "body")


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_is_not_http_is_told(toolbox, said):
    """Cut off, empty, malformed or with too many headers: HOST_UNREACHABLE with the host's name."""
    async with serve({"/": said}) as web:
        error = await refusal(toolbox, web.url(), retry={"max_attempts": 1})
    assert (error.reason, error.metadata["host"]) == (Reason.HOST_UNREACHABLE, "web.test")


async def test_wrongly_packed_bodies_are_told(toolbox):
    """Bytes that are no gzip, and an encoding that was not asked for."""
    answers = {
        "/": answer(b"no gzip", content_encoding="gzip"),
        "/br": answer(b"x", content_encoding="br"),
    }
    async with serve(answers) as web:
        for path in answers:
            assert (await refusal(toolbox, web.url(path))).reason == Reason.TOOL_FAILED


async def test_time_is_for_all_of_it(toolbox):
    """A server that drips a byte at a time, in its headers or its body, does not hold a request."""

    async def drip(asked, writer):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        writer.write(head if asked.target == "/body" else head[:20])
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serve({"/body": drip, "/head": drip}) as web:
        for path in ("/body", "/head"):
            begin = asyncio.get_running_loop().time()
            error = await refusal(toolbox, web.url(path), timeout=0.4)
            assert error.reason == Reason.HOST_UNREACHABLE
            assert asyncio.get_running_loop().time() - begin < 10


async def test_what_may_help_is_tried_again(toolbox):
    """503 twice, then an answer; a 404 is one; a POST without an answer is not repeated."""
    said = iter([answer(b"", 503), answer(b"", 429, retry_after="0"), answer(b"now")])
    async with serve({"/": lambda _: next(said), "/post": b""}) as web:
        done = await request(toolbox, web.url(), retry={"initial_delay_ms": 1})
        assert (done.result["body"], done.metadata["attempts"]) == ("now", 3)
        assert (await request(toolbox, web.url("/no"))).metadata["attempts"] == 1
        web.asked.clear()
        await refusal(toolbox, web.url("/post"), method="POST")
        assert len(web.asked) == 1
        await refusal(toolbox, web.url("/post"), retry={"max_attempts": 2, "initial_delay_ms": 1})
        assert len(web.asked) == 3


async def test_nobody_there_is_told(toolbox):
    """A closed port of an allowed host: HOST_UNREACHABLE."""
    async with serve({}) as web:
        address = web.url()
    error = await refusal(toolbox, address, retry={"max_attempts": 1})
    assert error.reason == Reason.HOST_UNREACHABLE


async def test_bytes_that_are_no_text_come_as_base64(toolbox):
    """And text comes in the encoding that the server names."""
    answers = {
        "/": answer(b"\xff\xfe\x00\x01", content_type="image/png"),
        "/latin": answer("Zoë".encode("latin-1"), content_type="text/html; charset=ISO-8859-1"),
        "/bad": answer(b"Zo\xeb", content_type="text/html; charset=zlib"),
    }
    async with serve(answers) as web:
        done = await request(toolbox, web.url())
        assert (done.result["body"], done.result["body_encoding"]) == ("//4AAQ==", "base64")
        for path in ("/latin", "/bad"):
            assert (await request(toolbox, web.url(path))).result["body"] == "Zoë"
