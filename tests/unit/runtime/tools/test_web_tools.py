"""Tools that read the web, against real servers on the loopback."""

import gzip
import json
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from services.common.errors import Reason, ServiceError
from tests.unit.runtime.tooling import open_toolbox
from tests.unit.runtime.tools import serving
from tests.unit.runtime.tools.serving import answer, leading_here, moved, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = """<!doctype html><html><head><title> The  page </title>
<meta name="description" content="About"><meta property="og:type" content="article">
<style>p { color: red }</style></head><body>
<h1>Heading</h1><p class="lead">First <b>words</b></p><p>Second</p>
<script>var hidden = 1</script>
<a href="/a">A</a><a href="b#x">B</a><a href="/a">again</a><a href="mailto:x@y">mail</a>
<a href="javascript:alert(1)">js</a><img src="//img.test/i.png">
</body></html>"""
HTML = {"content_type": "text/html; charset=utf-8"}
LARGE = '{"deep": ' + "[" * 40 + "]" * 40 + "}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox():
    """The real tools, whose network leads to `*.test` only."""
    async with open_toolbox(None, network=leading_here()) as toolbox:
        yield toolbox


async def execute(toolbox, tool, **arguments):
    return await serving.execute(toolbox, tool, arguments)


async def refusal(toolbox, tool, **arguments):
    with pytest.raises(ServiceError) as caught:
        await execute(toolbox, tool, **arguments)
    return caught.value


@pytest.mark.parametrize(
    "tool",
    ["web-scraper", "api-tester", "webhook-caller", "webpage-monitor", "sitemap-crawler",
     "rss-reader", "graphql-query"],
)  # fmt: skip
async def test_no_tool_reaches_inside(toolbox, tool):
    """Each refuses the loopback, and what leads there; and what is no address of the web."""
    name = "endpoint" if tool == "graphql-query" else "input"
    more = {"operation": "introspection"} if tool == "graphql-query" else {}
    async with serve({}) as web:
        web.answers["/"] = moved(f"http://127.0.0.1:{web.port}/in", 307)
        direct = await refusal(toolbox, tool, **{name: web.url(host="127.0.0.1"), **more})
        assert direct.reason == Reason.ADDRESS_REFUSED
        assert not web.asked
        assert (await refusal(toolbox, tool, **{name: web.url(), **more})).reason == (
            Reason.ADDRESS_REFUSED
        )
        assert [asked.target for asked in web.asked] == ["/"]
    wrong = await refusal(toolbox, tool, **{name: "file:///etc/passwd", **more})
    assert (wrong.reason, wrong.metadata["field"]) == (Reason.FIELD_INVALID, name)
    missing = await refusal(toolbox, tool)
    assert missing.reason in (Reason.FIELD_REQUIRED, Reason.FIELD_INVALID)


async def test_a_page_is_scraped(toolbox):
    """Title, text without scripts, links that are the web's, images, metadata and selectors."""
    async with serve({"/dir/p": answer(PAGE, **HTML)}) as web:
        done = await execute(
            toolbox, "web_scraper", url=web.url("/dir/p"), extract_links=True, extract_images=True,
            extract_meta=True, selector="p", selectors={"lead": ".lead", "text": "h1", "no": "i"},
        )  # fmt: skip
        content = done.result["content"]
        assert done.result["url"] == web.url("/dir/p")
        assert content["title"] == "The page"
        assert content["text"].split("\n")[:2] == ["Heading", "First"]
        assert "hidden" not in content["text"]
        assert "red" not in content["text"]
        assert content["links"] == [web.url("/a"), web.url("/dir/b")]
        assert content["images"] == ["http://img.test/i.png"]
        assert content["metadata"]["description"] == "About"
        assert content["metadata"]["meta_tags"]["og:type"] == "article"
        assert content["selected_content"] == ["First words", "Second"]
        assert (content["lead"], content["no"]) == (["First words"], [])
        assert content["selected_text"] == ["Heading"]
        wrong = await refusal(toolbox, "web-scraper", input=web.url("/dir/p"), selector="p[")
        assert (wrong.reason, wrong.metadata["field"]) == (Reason.FIELD_INVALID, "selector")
        script = await refusal(toolbox, "web-scraper", input=web.url(), wait_for_js=True)
        assert script.reason == Reason.NOT_IMPLEMENTED
        gone = await refusal(toolbox, "web-scraper", input=web.url("/gone"))
        assert (gone.reason, gone.metadata["status_code"]) == (Reason.TOOL_FAILED, "404")


async def test_a_page_says_its_encoding_itself(toolbox):
    """In its head, where the server says none; the server's word is stronger."""
    page = '<meta charset="shift_jis"><title>日本語</title>'.encode("shift_jis")
    answers = {
        "/own": answer(page, content_type="text/html"),
        "/server": answer("<meta charset=utf-8><p>é".encode("latin-1"),
                          content_type="text/html; charset=latin-1"),
    }  # fmt: skip
    async with serve(answers) as web:
        own = await execute(toolbox, "web-scraper", input=web.url("/own"))
        told = await execute(toolbox, "web-scraper", input=web.url("/server"))
    assert own.result["content"]["title"] == "日本語"
    assert told.result["content"]["text"] == "é"


async def test_a_page_of_bytes_is_no_page(toolbox):
    """A picture cannot be scraped; a page of broken HTML can."""
    answers = {
        "/png": answer(b"\x89PNG\xff", content_type="image/png"),
        "/bad": answer(b"<p><<<td>&bogus;<b>x" + b"<div>" * 5000, **HTML),
    }
    async with serve(answers) as web:
        error = await refusal(toolbox, "web-scraper", input=web.url("/png"))
        assert error.reason == Reason.TOOL_FAILED
        done = await execute(toolbox, "web-scraper", input=web.url("/bad"))
        assert "x" in done.result["content"]["text"]


async def test_addresses_are_taken_apart(toolbox):
    """Every part, without the network; a text that is none is told to be none."""
    text = "HTTPS://me:pw@Example.ORG:8443/a%20b/?q=1&q=2&e=&n=%C3%A9#frag"
    done = (await execute(toolbox, "url-analyzer", input=text)).result
    assert done["valid"]
    assert done["normalized"] == "https://example.org:8443/a%20b/?q=1&q=2&e=&n=%C3%A9#frag"
    assert (done["scheme"], done["host"], done["port"]) == ("https", "example.org", 8443)
    assert (done["path"], done["fragment"]) == ("/a%20b/", "frag")
    assert done["query_params"] == {"q": ["1", "2"], "e": "", "n": "é"}
    assert (done["username"], done["has_auth"], done["has_password"]) == ("me", True, True)
    assert done["host_type"] == {"type": "domain", "value": "example.org", "is_ip": False}
    six = (await execute(toolbox, "url_analyzer", url="http://[::1]/", decode_params=False)).result
    assert (six["host_type"]["type"], six["port"], six["query_params"]) == ("ipv6", 80, {})
    for wrong in ("", "no scheme", "http://", "http://a:99999/", "http://[::1/"):
        assert not (await execute(toolbox, "url-analyzer", input=wrong)).result["valid"]
    error = await refusal(toolbox, "url-analyzer", input="http://a/" + "x" * 9000)
    assert error.reason == Reason.LIMIT_EXCEEDED


async def test_an_addresss_server_is_asked_if_wanted(toolbox):
    """HEAD, and a redirect is told, not followed; inside, it is refused."""
    head = b"HTTP/1.1 301 M\r\nContent-Length: 7\r\nServer: s\r\nLocation: /x\r\n\r\n"
    async with serve({"/": head}) as web:
        done = await execute(toolbox, "url-analyzer", input=web.url(), fetch_metadata=True)
        assert done.result["metadata"] == {
            "status_code": 301, "content_length": 7, "server": "s", "redirect_location": "/x",
        }  # fmt: skip
        assert web.asked[0].method == "HEAD"
        inside = web.url(host="127.0.0.1")
        error = await refusal(toolbox, "url-analyzer", input=inside, fetch_metadata=True)
    assert error.reason == Reason.ADDRESS_REFUSED


async def test_an_api_is_tested(toolbox):
    """What was sent, what came back, JSON as its value, how long it took."""
    answers = {
        "/": answer({"n": [1, {"a": None}]}, 201),
        "/bad": answer("oops", 500),
        "/deep": answer(LARGE, content_type="application/json"),
        "/nan": answer('{"x": NaN, "y": 1e999}', content_type="application/json"),
    }
    async with serve(answers) as web:
        done = await execute(toolbox, "api-tester", input=web.url(), method="PUT", body={"a": 1})
        assert json.loads(web.asked[0].body) == {"a": 1}
        response = done.result["response"]
        assert (response["status_code"], response["is_success"]) == (201, True)
        assert (response["body"], response["body_is_json"]) == ({"n": [1, {"a": None}]}, True)
        assert done.result["request"] == {"method": "PUT", "url": web.url(), "timeout": 30}
        assert done.result["timing"]["duration_ms"] >= 0
        bad = (await execute(toolbox, "api-tester", input=web.url("/bad"))).result["response"]
        assert (bad["is_success"], bad["body"], bad["body_is_json"]) == (False, "oops", False)
        for path in ("/deep", "/nan"):
            told = (await execute(toolbox, "api-tester", input=web.url(path))).result["response"]
            assert not told["body_is_json"]


async def test_a_webhook_is_called_until_it_answers(toolbox):
    """The payload arrives as JSON; 503 is tried again; 400 is a failure and is not."""
    said = iter([answer(b"", 503), answer({"ok": True})])
    async with serve({"/": lambda _: next(said), "/no": answer("no", 400)}) as web:
        done = await execute(toolbox, "webhook-caller", input=web.url(), payload={"event": "x"})
        assert json.loads(web.asked[1].body) == {"event": "x"}
        assert (done.result["success"], done.result["retry_count"]) == (True, 1)
        assert done.result["response"]["json"] == {"ok": True}
        done = await execute(toolbox, "webhook_caller", url=web.url("/no"), data=[1])
        assert done.failure.code == "http_status"
        assert (done.result["success"], done.result["status_code"]) == (False, 400)
        assert done.result["retries_attempted"] is False


async def test_a_page_is_watched(toolbox):
    """Lines that came, went and changed; spaces do not count unless they should."""
    page = "<p>one</p><p>two</p><p>three  3</p><div id=x>part</div>"
    async with serve({"/": answer(page, **HTML)}) as web:
        first = (await execute(toolbox, "webpage-monitor", input=web.url())).result
        assert (first["has_changes"], first["previous_content"]) == (False, None)
        again = await execute(
            toolbox, "webpage-monitor", input=web.url(), previous_content=first["current_content"]
        )
        assert not again.result["has_changes"]
        old = "one\nTWO\nthree     3\npart\ngone"
        done = (
            await execute(toolbox, "webpage-monitor", input=web.url(), previous_content=old)
        ).result
        assert done["changes"] == [
            {"type": "modification", "old_line": 2, "new_line": 2, "old_content": "TWO",
             "content": "two"},
            {"type": "deletion", "old_line": 5, "content": "gone"},
        ]  # fmt: skip
        part = await execute(
            toolbox, "webpage-monitor", input=web.url(), selector="#x", previous_content=""
        )
        assert part.result["current_content"] == "part"
        assert part.result["changes"] == [{"type": "addition", "new_line": 1, "content": "part"}]
        wrong = await refusal(toolbox, "webpage-monitor", input=web.url(), selector="::")
    assert wrong.metadata["field"] == "selector"


SITEMAP = """<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
 xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
<url><loc> {a} </loc><lastmod>2026-01-01</lastmod><priority>0.8</priority>
<image:image><image:loc>http://x.test/i.png</image:loc></image:image></url>
<url><loc>{b}</loc><priority>high</priority></url></urlset>"""
INDEX = "<sitemapindex>{}</sitemapindex>"


async def test_sitemaps_are_followed(toolbox):
    """An index, a packed file, a list of lines, a file that is missing, and a loop."""
    xml = {"content_type": "application/xml"}
    async with serve({}) as web:
        names = ("/one.xml.gz", "/two.txt", "/gone.xml", "/index.xml")
        entries = [f"<sitemap><loc>{web.url(name)}</loc></sitemap>" for name in names]
        web.answers |= {
            "/index.xml": answer(INDEX.format("".join(entries)), **xml),
            "/one.xml.gz": answer(gzip.compress(SITEMAP.format(a="u1", b="u2").encode())),
            "/two.txt": answer("http://a.test/3\nhttp://a.test/4\n"),
        }
        done = (await execute(toolbox, "sitemap-crawler", input=web.url("/index.xml"))).result
        assert [found["url"] for found in done["urls"]] == [
            "u1", "u2", "http://a.test/3", "http://a.test/4",
        ]  # fmt: skip
        assert done["urls"][0] == {
            "url": "u1", "lastmod": "2026-01-01", "priority": 0.8, "has_metadata": True,
        }  # fmt: skip
        assert done["stats"] == {
            "sitemaps_processed": 3, "index_files_found": 1, "total_urls_discovered": 4,
            "urls_with_metadata": 1,
        }  # fmt: skip
        assert [error["sitemap"] for error in done["errors"]] == [web.url("/gone.xml")]
        few = await execute(toolbox, "sitemap-crawler", input=web.url("/index.xml"), max_urls=1)
        assert few.result["urls_found"] == 1
        alone = await execute(
            toolbox, "sitemap-crawler", input=web.url("/index.xml"), follow_sitemaps=False
        )
    assert alone.result["urls"] == []


@pytest.mark.parametrize(
    "body",
    [
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><urlset><loc>&e;</loc></urlset>',
        "<urlset><url>",
        b"\x1f\x8bnot gzip",
        "<urlset>" + "<a>" * 100_000,
    ],
)
async def test_a_hostile_sitemap_is_refused(toolbox, body):
    """Entities, cut-off files, false gzip and deep nesting end as TOOL_FAILED."""
    async with serve({"/": answer(body)}) as web:
        assert (await refusal(toolbox, "sitemap-crawler", input=web.url())).reason == (
            Reason.TOOL_FAILED
        )


RSS = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
<link>http://n.test/</link><description>All of it</description><language>en</language>
<item><title>First</title><link>http://n.test/1</link><guid>id1</guid><category>x</category>
<pubDate>Mon, 05 Jan 2026 10:00:00 +0100</pubDate>
<description>&lt;p onclick="x()"&gt;Hi&lt;script&gt;bad&lt;/script&gt;&lt;/p&gt;</description>
<enclosure url="http://n.test/1.mp3" type="audio/mpeg" length="9"/></item>
<item><title>Second</title></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>A</title><id>f</id>
<entry><title>E</title><id>e1</id><updated>2026-01-05T10:00:00Z</updated>
<author><name>Me</name></author><link href="http://n.test/e"/><content>Body</content></entry></feed>"""


async def test_feeds_are_read(toolbox):
    """RSS from an address, Atom from a text; times in UTC, scripts gone."""
    async with serve({"/feed": answer(RSS, content_type="application/rss+xml")}) as web:
        done = (await execute(toolbox, "rss-reader", url=web.url("/feed"))).result
        one = (await execute(toolbox, "rss_reader", input=web.url("/feed"), limit=1)).result
    assert (done["format"], done["count"], done["well_formed"]) == ("rss20", 2, True)
    assert done["feed"]["title"] == "News"
    first = done["entries"][0]
    assert (first["id"], first["published"]) == ("id1", "2026-01-05T09:00:00+00:00")
    assert first["summary"] == "<p>Hi</p>"
    assert first["categories"] == ["x"]
    assert first["enclosures"] == [
        {"url": "http://n.test/1.mp3", "type": "audio/mpeg", "length": "9"}
    ]
    assert (one["count"], one["total"]) == (1, 2)
    atom = (await execute(toolbox, "rss-reader", content=ATOM)).result
    assert (atom["format"], atom["entries"][0]["author"]) == ("atom10", "Me")
    assert atom["entries"][0]["content"] == "Body"


UNFOLDING = [("&a;", "b"), ("&b;", "c"), ("&c;", "d"), ("&d;", "e"), ("&e;", "f"), ("&f;", "g"),
             ("&g;", "h"), ("&h;", "i")]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "no feed", "<html><body>page</body></html>", "",
        '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
        + "".join(f'<!ENTITY {new} "{old * 10}">' for old, new in UNFOLDING)
        + "]><html>&i;</html>",
    ],
)  # fmt: skip
async def test_what_is_no_feed_is_refused(toolbox, content):
    """A page, a text, nothing, and entities that unfold."""
    assert (await refusal(toolbox, "rss-reader", content=content)).reason == Reason.TOOL_FAILED


async def test_a_graphql_server_is_asked(toolbox):
    """Query with variables, mutation, introspection; errors without data are a failure."""

    def said(asked):
        body = json.loads(asked.body)
        if "__schema" in body["query"]:
            return answer({"data": {"__schema": {"queryType": {"name": "Query"}}}})
        if "fail" in body["query"]:
            return answer({"errors": [{"message": "no such field"}], "data": None})
        return answer({"data": {"echo": body["variables"], "name": body.get("operationName")}})

    async with serve({"/g": said, "/html": answer("<html>")}) as web:
        done = await execute(
            toolbox, "graphql-query", endpoint=web.url("/g"), input="query Q($a: Int) { a }",
            variables={"a": 1}, operation_name="Q", headers={"Authorization": "Bearer t"},
        )  # fmt: skip
        assert done.result["result"] == {"data": {"echo": {"a": 1}, "name": "Q"}}
        assert web.asked[0].headers["authorization"] == "Bearer t"
        done = await execute(
            toolbox, "graphql_query", endpoint=web.url("/g"), operation="introspection"
        )
        assert done.result["schema"] == {"queryType": {"name": "Query"}}
        done = await execute(
            toolbox, "graphql-query", endpoint=web.url("/g"), operation="mutation",
            query="mutation { fail }",
        )  # fmt: skip
        assert (done.failure.code, done.failure.message) == ("graphql_errors", "no such field")
        error = await refusal(toolbox, "graphql-query", endpoint=web.url("/html"), input="{ a }")
        assert error.reason == Reason.TOOL_FAILED


@pytest.mark.parametrize(
    "document",
    [
        "mutation { drop }",
        "{ a } mutation M { drop }",
        '# query\nmutation M($q: String = "query {") { drop }',
        'query Q { a(s: "}") } subscription { b }',
    ],
)
async def test_a_query_holds_no_mutation(toolbox, document):
    """Whatever stands around it, in comments and texts."""
    arguments = {"endpoint": "http://web.test/", "input": document}
    error = await refusal(toolbox, "graphql-query", **arguments)
    assert (error.reason, error.metadata["field"]) == (Reason.FIELD_INVALID, "input")
    error = await refusal(toolbox, "graphql-query", **arguments, operation="subscription")
    assert error.reason == Reason.NOT_IMPLEMENTED


async def test_words_of_operations_may_be_names(toolbox):
    """A field or a fragment may be called mutation."""
    document = "query mutation { mutation(subscription: 1) } fragment subscription on T { query }"
    async with serve({"/": answer({"data": {}})}) as web:
        await execute(toolbox, "graphql-query", endpoint=web.url(), input=document)


async def test_services_are_checked(toolbox):
    """A port, a web server, a name: there, and not there."""
    async with serve({"/": answer("", 404), "/down": answer("", 503)}) as web:
        target = f"web.test:{web.port}"
        done = (await execute(toolbox, "service-checker", target=target)).result
        assert (done["available"], done["status"], done["error"]) == (True, "open", None)
        both = await execute(toolbox, "service_checker", host="web.test", port=web.port)
        assert both.result["available"]
        done = await execute(toolbox, "service-checker", target=target, check_type="http")
        assert (done.result["available"], done.result["status"]) == (True, "404 Answer")
        down = await execute(toolbox, "service-checker", target=web.url("/down"), check_type="http")
        assert not down.result["available"]
        dns = await execute(toolbox, "service-checker", target="web.test", check_type="dns")
        assert dns.result["metadata"] == {"addresses": ["127.0.0.1"]}
        bad = await execute(toolbox, "service-checker", target=target, check_type="https")
        assert not bad.result["available"]
    gone = await execute(toolbox, "service-checker", target=target, timeout_seconds=1)
    assert (gone.result["available"], gone.result["status"]) == (False, "unreachable")
    assert gone.result["error"]


@pytest.mark.parametrize(
    ("target", "kind", "reason"),
    [
        ("127.0.0.1:22", "tcp", Reason.ADDRESS_REFUSED),
        ("localhost", "dns", Reason.ADDRESS_REFUSED),
        ("http://169.254.169.254/", "http", Reason.ADDRESS_REFUSED),
        ("internal.example:80", "tcp", Reason.ADDRESS_REFUSED),
        ("web.test", "tcp", Reason.FIELD_INVALID),
        ("web.test:99999", "tcp", Reason.FIELD_INVALID),
        ("web.test:²", "tcp", Reason.FIELD_INVALID),
        ("", "dns", Reason.FIELD_INVALID),
        ("http://web.test/", "https", Reason.FIELD_INVALID),
    ],
)
async def test_only_what_is_allowed_is_checked(toolbox, target, kind, reason):
    """The loopback is refused whether or not something listens; wrong targets are named."""
    error = await refusal(toolbox, "service-checker", target=target, check_type=kind)
    assert error.reason == reason


async def test_without_a_provider_there_is_no_search(toolbox):
    """NOT_IMPLEMENTED, never invented results."""
    error = await refusal(toolbox, "web-searcher", input="anything")
    assert (error.reason, "provider" in error.message) == (Reason.NOT_IMPLEMENTED, True)


HITS = [{"title": "T", "url": "http://r.test/", "content": "S", "more": 1}, {"title": None}]


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("searxng", {"results": HITS}),
        ("tavily", {"results": HITS}),
        ("brave", {"web": {"results": HITS}}),
        ("serperdev", {"organic": HITS}),
        ("serpapi", {"organic_results": HITS}),
        ("google", {"items": [{"title": "T", "link": "http://r.test/", "snippet": "S"}]}),
        ("bing", {"webPages": {"value": [{"name": "T", "url": "http://r.test/", "snippet": "S"}]}}),
    ],
)
async def test_each_provider_is_asked_in_its_way(provider, body):
    """The query and the key arrive; results have one shape; another provider is refused."""
    async with serve({}) as web:
        web.answers = _Everything(answer(body))
        told = {"provider": provider, "base_url": web.url("/base"), "api_key": "the-key"}
        settings = {"web-searcher": told}
        async with open_toolbox(None, network=leading_here(), settings=settings) as toolbox:
            done = await execute(toolbox, "web_search", query="llamas & co", max_results=1)
            name = "brave" if provider == "bing" else "bing"
            other = await refusal(toolbox, "web-searcher", input="x", provider=name)
            await refusal(toolbox, "web-searcher", input="  ")
            web.answers = _Everything(answer("limit", 429))
            failed = await refusal(toolbox, "web-searcher", input="x")
    assert done.result == {
        "query": "llamas & co", "provider": provider, "count": 1,
        "results": [{"title": "T", "url": "http://r.test/", "snippet": "S"}],
    }  # fmt: skip
    asked = web.asked[0]
    assert asked.target.startswith("/base/")
    sent = parse_qs(urlsplit(asked.target).query).get("q") or [
        json.loads(asked.body).get("q") or json.loads(asked.body)["query"]
    ]
    assert sent == ["llamas & co"]
    if provider != "searxng":
        assert "the-key" in f"{asked.target} {asked.headers}"
    assert other.reason == Reason.NOT_IMPLEMENTED
    assert failed.reason == Reason.TOOL_FAILED
    assert "the-key" not in repr(failed)


async def test_duckduckgo_tells_what_it_knows():
    """Subjects with their addresses; groups of them have no address and are left out."""
    topic = {"Text": "Llama, an animal", "FirstURL": "http://r.test/llama"}
    said = {"Heading": "Llama", "RelatedTopics": [topic, {"Name": "Other", "Topics": [topic]}]}
    async with serve({}) as web:
        web.answers = _Everything(answer(said))
        settings = {"web-searcher": {"provider": "duckduckgo", "base_url": web.url("/")}}
        async with open_toolbox(None, network=leading_here(), settings=settings) as toolbox:
            done = await execute(toolbox, "web-searcher", input="llama")
    assert done.result["results"] == [
        {"title": "Llama, an animal", "url": "http://r.test/llama", "snippet": "Llama, an animal"}
    ]


class _Everything(dict):
    """The same answer to every path."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def get(self, *_):
        return self.said
