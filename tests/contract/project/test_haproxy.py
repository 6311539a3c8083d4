"""`deploy/haproxy/haproxy.cfg` with a real HAProxy before two real services."""

import httpx

from tests.haproxy import CONFIG, WAIT_SECONDS, balancer, cached_pairs, needs_haproxy
from tests.serving import running
from tests.tiny import tiny_bundle

pytestmark = needs_haproxy


def asked(url, query):
    body = {"task": "qc", "query": query, "language": "en", "candidates": ["home,cups", "shoes"]}
    answer = httpx.post(f"{url}/v1/score", json=body, timeout=WAIT_SECONDS)
    assert answer.status_code == 200, answer.text
    return answer.json()["scores"]


def test_a_query_always_meets_the_same_replica_and_another_one_when_that_is_gone(tmp_path):
    tiny_bundle(tmp_path / "qc")
    bundles = {"qc": tmp_path / "qc"}
    queries = [f'red cup, große {n} "x"' for n in range(24)]
    with running(bundles, score_cache_pairs=1000) as one, running(bundles, score_cache_pairs=1000) as two:
        urls = [one.wait_ready(), two.wait_ready()]
        with balancer(tmp_path, CONFIG.read_text(), urls) as url:
            first = [asked(url, query) for query in queries]
            misses = [cached_pairs(each)[1] for each in urls]
            assert sum(misses) == 2 * len(queries)
            assert min(misses) > 0
            assert [asked(url, query) for query in queries] == first
            assert [cached_pairs(each)[1] for each in urls] == misses  # all of the second round were hits
            two.child.kill()
            two.child.wait()
            assert [asked(url, query) for query in queries] == first
