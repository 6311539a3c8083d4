"""What callers hand to the client: faults are configuration errors that name the thing, and never hold a secret."""

import asyncio
import math

import pytest

from relevance.client import AsyncClient, Client
from relevance.client.types import RetryPolicy
from relevance.errors import ConfigError
from relevance.tasks import Pair

URL = "http://127.0.0.1:9"  # nobody listens: a fault must be found before anything is sent
SECRET = "hunter2"


def refused(make, match):
    with pytest.raises(ConfigError, match=match) as caught:
        make()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@both
@pytest.mark.parametrize("form", ["{}\n", "{}\r\n", " {}", "a {}", "\x00{}", "{}é"])
def test_key_that_is_no_header_value_is_refused_and_not_shown(kind, form):
    refused(lambda: kind(URL, api_key=form.format(SECRET)), "api_key .* header value")


@both
@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("localhost:8080", "expected http://HOST:PORT"),
        ("127.0.0.1", "expected http://HOST:PORT"),
        ("//host", "expected http://HOST:PORT"),
        ("ftp://host", "expected http://HOST:PORT"),
        ("http://", "expected http://HOST:PORT"),
        ("http:///path", "expected http://HOST:PORT"),
        ("http://ho st", "expected http://HOST:PORT"),
        ("http://host\n", "expected http://HOST:PORT"),
        ("", "expected http://HOST:PORT"),
        (None, "NoneType"),
        ("http://host:port", "malformed"),
        ("http://host:99999", "malformed"),
        ("http://[::1", "malformed"),
        ("http://host..name", "malformed"),
        ("http://" + "a" * 64, "malformed"),
        ("http://" + "ü" * 64, "malformed"),
        ("http://ﬀ.name", "malformed"),
        (f"http://me:{SECRET}@host", "user name or password"),
        (f"me:{SECRET}@host", "user name or password"),
        (f"http://host?key={SECRET}", "query"),
        (f"http://host/#{SECRET}", "query or fragment"),
        ("http://host/?", "query"),
        ("http://host/v1", "route of the service"),
        ("http://host/v1/score", "'/v1/score' is a route"),
        ("http://host:8080/rerank/", "'/rerank' is a route"),
        ("http://host/gateway/v2/rerank", "'/v2/rerank' is a route"),
    ],
)
def test_base_url_of_no_service_is_refused(kind, url, match):
    refused(lambda: kind(url), f"base_url.*{match}")


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://h/",
        "HTTP://H:80",
        "http://[::1]:8080",
        "http://h/gateway/relevance/",
        "http://münchen.test",
    ],
)
def test_base_url_may_have_a_prefix(url):
    Client(url).close()


@both
@pytest.mark.parametrize("seconds", [math.nan, -math.inf, -1, 0, True, "3"])
def test_impossible_timeouts_are_refused(kind, seconds):
    refused(lambda: kind(URL, timeout_seconds=seconds), "timeout_seconds")
    refused(lambda: called(kind, "score", "qc", "q", ["a"], timeout_seconds=seconds), "timeout_seconds")
    refused(lambda: kind(URL).score_bulk("qc", [], timeout_seconds=seconds), "timeout_seconds")


@pytest.mark.parametrize("count", [0, -1, 1.5, True, math.nan, "3"])
def test_counts_are_whole_and_positive(count):
    refused(lambda: Client(URL, max_candidates=count), "max_candidates")
    refused(lambda: AsyncClient(URL, max_concurrency=count), "max_concurrency")


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"attempts": 1.5}]
    + [
        {name: bad}
        for name in ("base_seconds", "cap_seconds", "longest_retry_after_seconds")
        for bad in (-1, math.nan, math.inf)
    ],
)
def test_impossible_retry_policies_are_refused(wrong):
    refused(lambda: RetryPolicy(**wrong), "RetryPolicy")


def called(kind, method, *arguments, **options):
    if kind is Client:
        with Client(URL) as client:
            return getattr(client, method)(*arguments, **options)

    async def run():
        async with AsyncClient(URL) as client:
            return await getattr(client, method)(*arguments, **options)

    return asyncio.run(run())


@both
@pytest.mark.parametrize("name", ["", " ", "a b", "ümlaut", "a\nb", "x" * 129, 7, b"id"])
def test_request_id_unlike_the_logs_is_refused(kind, name):
    refused(lambda: called(kind, "score", "qc", "q", ["a"], request_id=name), "request_id")
    refused(lambda: kind(URL).score_bulk("qc", [], request_id=name), "request_id")


@both
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("q", "shoes"), "candidates of type str: expected several texts, as a list"),
        (("q", b"shoes"), "candidates of type bytes"),
        (("q", {"a": 1}), "candidates of type dict"),
        (("q", None), "candidates of type NoneType"),
        (("q", ["a", None]), r"candidates\[1\] None: expected text"),
        (("q", ["a", 3.5]), r"candidates\[1\] 3.5"),
        ((None, ["a"]), "query None"),
        ((["q"], ["a"]), "query"),
        (("q", ["a"], 5), "language 5"),
    ],
)
def test_what_is_no_text_is_refused(kind, arguments, match):
    refused(lambda: called(kind, "score", "qc", *arguments), match)


@both
@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        (Pair("a", "b"), "pairs of type Pair"),
        ("ab", "pairs of type str"),
        ([Pair("a", "b"), ("a", "b")], r"pairs\[1\] of type tuple"),
        ([Pair("a", None)], r"pairs\[0\].candidate None"),
        ([Pair("a", "b", None)], r"pairs\[0\].language None"),
    ],
)
def test_what_is_no_pair_is_refused(kind, pairs, match):
    refused(lambda: called(kind, "score_pairs", "qc", pairs), match)
    refused(lambda: in_bulk(kind, pairs), match)


def in_bulk(kind, pairs):
    async def run():
        async with AsyncClient(URL) as client:
            return [each async for each in client.score_bulk("qc", pairs)]

    return list(Client(URL).score_bulk("qc", pairs)) if kind is Client else asyncio.run(run())
