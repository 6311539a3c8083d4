"""The page in a real Chromium with real bundles: every view, light and dark, wide and narrow, by mouse and keyboard."""

import json

import numpy as np
import pytest

from relevance.evaluation.metrics import Scored, evaluate
from relevance.model.bundle import Manifest
from relevance.model.card import score_reference
from relevance.tasks import Task
from service.auth.key_file import entry, new_secret
from tests.browser import INSTALLED, TIMEOUT_MILLISECONDS, chromium, tab
from tests.serving import admin_url, running
from tests.tiny import tiny_bundle

pytestmark = pytest.mark.skipif(not INSTALLED, reason="needs chromium, playwright and axe-playwright-python")

LOOKS = [(size, scheme) for size in ("wide", "narrow") for scheme in ("light", "dark")]
LONG = " ".join(f"word{n}" for n in range(200))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    tiny_bundle(folder / "qc", Task.QC, seed=1)
    tiny_bundle(folder / "qi", Task.QI, seed=2)
    tiny_bundle(folder / "qc-2", Task.QC, seed=3)
    return {"qc": measured(folder / "qc"), "qi": folder / "qi"}


def measured(folder):
    """Give a bundle metrics, a calibration and histograms, as a trained one has them."""
    rng = np.random.default_rng(0)
    labels, languages = rng.integers(0, 2, 180), ["en"] * 60 + ["ja"] * 60 + ["ar"] * 60
    scores = np.clip(labels * 0.3 + rng.random(180) * 0.7, 0, 1)
    scored = Scored(labels.tolist(), scores.tolist(), [f"q{n // 6}" for n in range(180)], languages)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= score_reference(scores, languages) | {"findings": ["F1 is no better than always saying yes"]}
    manifest |= {"metrics_on": "dev rows", "calibration": {"scale": 0.8, "offset": -0.2}}
    manifest["metrics"] = evaluate(scored, 0.5, ["en", "es"], resamples=50).model_dump(mode="json")
    found = Manifest.model_validate(manifest).sealed()
    (folder / "manifest.json").write_text(found.model_dump_json())
    return folder


@pytest.fixture(scope="module")
def url(bundles):
    with running(bundles, threads=1) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def scored(page, count):
    """Wait until no panel waits for an answer and they show this many scores; return them by candidate, best first."""
    from playwright.sync_api import expect

    expect(page.locator(".panel[aria-busy]")).to_have_count(0, timeout=TIMEOUT_MILLISECONDS)
    rows = page.locator(".panel:not([hidden]) .result")
    expect(rows).to_have_count(count, timeout=TIMEOUT_MILLISECONDS)
    return [(row.locator(".text").inner_text(), float(row.locator(".score").inner_text())) for row in rows.all()]


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_playground_shows_scores_and_has_no_fault(browser, url, size, scheme):
    with tab(browser, url, size, scheme) as opened:
        page = opened.page
        opened.go("/")
        assert len(scored(page, 18)) == 18  # opens with a query of the sample shop that is already scored
        assert opened.overflow() == 0
        page.get_by_role("button", name="Why?").first.click()
        page.locator(".word").first.wait_for()
        page.get_by_text("The same from code").click()
        assert opened.serious() == []
        page.get_by_role("button", name="frying pans").click()
        page.wait_for_url("**q=frying+pans**")
        scored(page, 18)
        assert opened.faults == []


@pytest.mark.parametrize("task", ["qc", "qi"])
def test_a_service_with_one_model_shows_no_stray_word(browser, bundles, task):
    with running({task: bundles[task]}, threads=1) as process, tab(browser, process.wait_ready()) as opened:
        opened.go("/")
        scored(opened.page, {"qc": 10, "qi": 8}[task])
        assert opened.page.get_by_role("group", name="Tasks shown").count() == 0
        names = opened.page.get_by_label("Language").locator("option").all_inner_texts()
        assert len(names) == len(set(names))
        for view, heading in (("Live", "Live"), ("Models", "Models"), ("Playground", "Playground")):
            shown = opened.page.locator("main").inner_text().split()
            assert not {"null", "undefined", "NaN", "false", "[object", "Object]"} & set(shown)
            opened.page.get_by_role("link", name=view).click()
            opened.page.get_by_role("heading", name=heading, exact=True).wait_for()


def test_scores_are_those_of_the_service_and_the_address_keeps_the_state(browser, url):
    with tab(browser, url) as opened:
        page = opened.page
        opened.go("/")
        scored(page, 18)
        page.get_by_role("button", name="Item titles").click()
        page.get_by_text("Edit the 8 candidates").click()
        page.get_by_label("One candidate a line").locator("visible=true").fill(f"red cup\n\n  blue mug \n{LONG}")
        page.get_by_label("Search query").fill("cup <b>& 'é'")
        page.get_by_label("Language", exact=True).select_option("es")
        page.get_by_label("Search query").press("Enter")
        found = scored(page, 3)
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        body = {"task": "qi", "query": "cup <b>& 'é'", "language": "es", "candidates": ["red cup", "blue mug", LONG]}
        answer = page.request.post(f"{url}/v1/score", data=body).json()
        assert dict(found) == {
            text: round(each["score"], 3) for text, each in zip(body["candidates"], answer["scores"], strict=True)
        }
        assert page.locator(".tag", has_text="cut").count() == len(answer["truncated"]) == 1
        assert f"{answer['usage']['tokens']}" in page.locator(".foot").last.inner_text().replace(",", "")
        address = page.url
        with tab(browser, url) as other:
            other.page.goto(address)
            assert scored(other.page, 3) == found
            assert other.page.get_by_label("Language", exact=True).input_value() == "es"
            assert other.faults == []


def test_words_that_moved_a_score_are_those_of_the_pairs_without_them(browser, url):
    with tab(browser, url) as opened:
        page = opened.page
        opened.go("/#/playground?q=red+cup&l=en&show=qi&qi=blue+mug")
        scored(page, 1)
        page.get_by_role("button", name="Why?").click()
        page.locator(".word").first.wait_for()
        shown = [text.replace("−", "-").split() for text in page.locator(".word").all_inner_texts()]
        texts = [("red cup", "blue mug"), ("cup", "blue mug"), ("red", "blue mug"), ("red cup", "mug")]
        texts += [("red cup", "blue")]
        body = {"task": "qi", "pairs": [{"query": q, "candidate": c, "language": "en"} for q, c in texts]}
        whole, *without = [each["score"] for each in page.request.post(f"{url}/v1/score", data=body).json()["scores"]]
        assert [word for word, _ in shown] == ["red", "cup", "blue", "mug"]
        assert [float(moved) for _, moved in shown] == pytest.approx([whole - each for each in without], abs=0.0051)


def test_model_that_is_loaded_later_is_shown_then_with_what_the_address_said_of_it(browser, url):
    with tab(browser, url) as opened:
        page = opened.page
        ready = []

        def while_loading(route):
            answer = route.fetch()
            found = answer.json()
            if not ready and "models" in found:
                found["models"] = [model for model in found["models"] if model["task"] == "qc"]
            route.fulfill(response=answer, json=found | ({} if ready or "models" in found else {"loading": True}))

        page.route("**/v1/models", while_loading)
        page.route("**/page/config", while_loading)
        opened.go("/#/playground?q=cup&l=en&qi=red+cup%0Ablue+cup")
        page.get_by_text("Another model is being loaded").wait_for()
        assert len(scored(page, 10)) == 10
        page.get_by_label("Search query").fill("mug")
        ready.append(True)
        assert {text for text, _ in scored(page, 12)} >= {"red cup", "blue cup"}
        assert page.get_by_label("Search query").input_value() == "mug"
        assert not page.get_by_text("Another model is being loaded").is_visible()
        assert opened.faults == []


def test_untuned_model_is_marked_until_another_one_takes_its_place(browser, tmp_path):
    tiny_bundle(tmp_path / "untuned", Task.QC, seed=1)
    manifest = json.loads((tmp_path / "untuned" / "manifest.json").read_text()) | {"fine_tuned": False}
    before = Manifest.model_validate(manifest).sealed()
    (tmp_path / "untuned" / "manifest.json").write_text(before.model_dump_json())
    after = tiny_bundle(tmp_path / "tuned", Task.QC, seed=3)
    served = tmp_path / "served"
    served.symlink_to("untuned")
    with (
        running({"qc": served}, threads=1, watch_seconds=0.1) as process,
        tab(browser, process.wait_ready()) as opened,
    ):
        page = opened.page
        opened.go("/")
        scored(page, 10)
        page.get_by_text("Untuned model").wait_for()
        page.locator(".about", has_text=before.version).wait_for()
        assert opened.serious() == []
        with tab(browser, opened.url, "narrow", "dark") as other:
            other.go("/#/models")
            other.page.locator(".tag", has_text="untuned").wait_for()
            assert other.overflow() == 0
            assert other.serious() == []
        page.get_by_label("Search query").fill("mug")
        (tmp_path / "link").symlink_to("tuned")
        (tmp_path / "link").replace(served)
        page.locator(".about", has_text=after.version).wait_for()  # without a click
        scored(page, 10)
        assert not page.get_by_text("Untuned model").is_visible()
        assert page.get_by_label("Search query").input_value() == "mug"
        assert opened.faults == []


def test_wrong_input_is_answered_in_words(browser, url):
    with tab(browser, url) as opened:
        page = opened.page
        opened.go("/#/playground?q=cup&show=qi&qi=" + "%0A".join(["cup"] * 1001))
        assert "expected at most 1000" in page.locator(".notice.bad").inner_text()
        page.get_by_text("Edit the 1001 candidates").click()
        area = page.get_by_label("One candidate a line").locator("visible=true")
        area.fill("")
        page.get_by_role("button", name="Score", exact=True).click()
        page.get_by_text("There are no candidates").wait_for()
        page.get_by_label("Search query").fill("  ")
        page.get_by_role("button", name="Score", exact=True).click()
        page.get_by_text("Type a query first").wait_for()
        opened.go("/?fresh#/nonsense?l=%3Cscript%3E")
        scored(page, 18)


def test_page_asks_for_a_key_keeps_it_in_the_tab_and_forgets_it(browser, bundles, tmp_path):
    secret = new_secret()
    (tmp_path / "keys.toml").write_text(entry("me", secret, ["score"]))
    with (
        running(bundles, threads=1, api_keys=tmp_path / "keys.toml") as process,
        tab(browser, process.wait_ready()) as opened,
    ):
        page = opened.page
        opened.go("/")
        page.get_by_role("dialog").wait_for()
        assert opened.serious() == []
        assert opened.faults == []  # nothing was sent without a key
        page.get_by_label("Key", exact=True).fill("rel_wrong")
        page.keyboard.press("Enter")
        page.get_by_text("the API key is unknown").first.wait_for()
        page.get_by_label("Key", exact=True).fill(secret)
        page.keyboard.press("Enter")
        scored(page, 18)
        assert page.evaluate("[sessionStorage.getItem('relevance.key'), JSON.stringify(localStorage)]") == [
            secret,
            "{}",
        ]
        assert secret not in page.url
        assert secret not in page.content()
        page.get_by_role("link", name="API").click()
        page.get_by_text("/v1/score/bulk").first.wait_for()
        page.go_back()
        page.get_by_role("button", name="API key").click()
        page.get_by_role("button", name="Forget").click()
        assert page.evaluate("sessionStorage.length") == 0


def test_page_works_by_keyboard(browser, url):
    with tab(browser, url) as opened:
        page = opened.page
        opened.go("/")
        scored(page, 18)
        names = []
        for _ in range(60):
            page.keyboard.press("Tab")
            names.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert names[0] == "Skip to content"
        for name in ("Playground", "query", "language", "Score", "Copy link", "Categories", "Why?"):
            assert name in names
        page.get_by_role("button", name="Why?").first.focus()
        page.keyboard.press("Enter")
        page.locator(".word").first.wait_for()
        assert opened.faults == []


SCRAPE = """
# TYPE relevance_wait_seconds histogram
relevance_wait_seconds_bucket{le="0.1",task="qc"} %d
relevance_wait_seconds_bucket{le="0.2",task="qc"} %d
relevance_wait_seconds_bucket{le="+Inf",task="qc"} %d
relevance_wait_seconds_bucket{le="0.1",task="qi"} 0
relevance_wait_seconds_bucket{le="0.2",task="qi"} 7
relevance_wait_seconds_bucket{le="+Inf",task="qi"} 7
relevance_rejections_total{reason="a \\"b\\" {c}"} %d
process_start_time_seconds %d
"""
READ = """async (scrapes) => {
  const { History, parse } = await import("/page/js/metrics.js");
  const history = new History();
  scrapes.forEach((scrape, place) => history.add(parse(scrape), 10 * place));
  const span = history.span(60);
  const shares = span.quantiles("wait_seconds", [0.25, 0.5, 0.99], { task: "qc" });
  return { shares, seconds: span.seconds, rejected: [...span.by("reason", "rejections_total")] };
}"""


@pytest.mark.parametrize(
    ("second", "shares"),
    [
        ((30, 50, 50, 0, 1), [0.05, 0.1, 0.198]),  # 20 more up to 0.1 and 20 between 0.1 and 0.2
        ((10, 20, 50, 0, 1), [0.2, 0.2, 0.2]),  # 10 between them, 30 above every finite bound
        ((10, 10, 10, 0, 1), [None, None, None]),
    ],
)
def test_percentiles_are_those_of_what_grew_between_two_scrapes(browser, url, second, shares):
    with tab(browser, url) as opened:
        opened.go("/docs")
        found = opened.page.evaluate(READ, [SCRAPE % (10, 10, 10, 0, 1), SCRAPE % second])
        assert found["seconds"] == 10
        assert found["shares"] == pytest.approx(shares)


def test_counts_start_anew_with_another_process_and_labels_are_read_whole(browser, url):
    with tab(browser, url) as opened:
        opened.go("/docs")
        scrapes = [SCRAPE % (9, 9, 9, 9, 1), SCRAPE % (1, 1, 1, 1, 2), SCRAPE % (2, 2, 2, 4, 2)]
        found = opened.page.evaluate(READ, scrapes)
        assert (found["seconds"], found["rejected"]) == (10, [['a "b" {c}', 3]])


def test_a_chart_with_one_point_shows_it_in_its_minute(browser, url):
    draw = """async (times) => {
      const { Chart } = await import("/page/js/chart.js");
      const chart = new Chart("Scores", ["pairs"], "/s");
      document.querySelector("main").append(chart.element);
      chart.update(times, [times.map(() => 3)]);
      while (!chart.drawn) await new Promise((done) => setTimeout(done, 20));
      chart.update(times, [times.map(() => 3)]);
      await new Promise((done) => setTimeout(done, 20));
      const { min, max } = chart.drawn.scales.x;
      return [min, max, chart.drawn.series[1].points.show(chart.drawn)];
    }"""
    with tab(browser, url) as opened:
        opened.go("/#/live")
        assert opened.page.evaluate(draw, [1700000000]) == [1700000000 - 60, 1700000000, True]
        assert opened.page.evaluate(draw, [1700000000, 1700000009]) == [1700000000, 1700000009, False]
        assert opened.faults == []


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_live_shows_what_was_scored_and_refused(browser, url, size, scheme):
    from playwright.sync_api import expect

    with tab(browser, url, size, scheme) as opened:
        page = opened.page
        opened.go("/#/live")
        rows = page.get_by_role("region", name="Latency by number of candidates").locator("tbody tr")
        expect(rows).to_have_count(6, timeout=TIMEOUT_MILLISECONDS)
        body = {"task": "qi", "query": "red cup", "candidates": [f"cup {n}" for n in range(20)]}
        for _ in range(5):
            assert page.request.post(f"{url}/v1/score", data=body).ok
        much = body | {"candidates": [f"{'cup ' * 50}{n}" for n in range(500)]}  # more than fits into a millisecond
        late = page.request.post(f"{url}/v1/score", data=much, headers={"X-Request-Timeout-Ms": "1"})
        assert late.status == 504
        row = rows.filter(has=page.get_by_role("rowheader", name="11-50"))
        expect(row.locator("td").first).to_have_text("5", timeout=TIMEOUT_MILLISECONDS)
        assert all(text.endswith(" ms") for text in row.locator("td").all_inner_texts()[1:])
        refused = page.get_by_role("region", name="Refused requests").get_by_role("row", name="deadline")
        expect(refused.locator("td").first).to_have_text("1", timeout=TIMEOUT_MILLISECONDS)
        latency = page.get_by_role("img", name="Latency: p50")
        assert "ms, p95" in latency.get_attribute("aria-label")
        page.get_by_label("Task").select_option("qc")
        expect(row.locator("td").first).to_have_text("0", timeout=TIMEOUT_MILLISECONDS)
        page.wait_for_url("**#/live?task=qc")
        assert opened.serious() == []
        assert opened.overflow() == 0
        assert opened.faults == []


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_models_shows_the_card_of_each_model(browser, url, size, scheme):
    with tab(browser, url, size, scheme) as opened:
        page = opened.page
        card = page.request.get(f"{url}/v1/models/qc").json()["models"][0]
        opened.go("/#/models")
        page.get_by_text("F1 is no better than always saying yes").wait_for()
        row = page.get_by_role("region", name="Languages").locator("tbody tr", has_text="Japanese")
        auc = card["metrics"]["languages"]["ja"]["auc"]
        shown = " ".join(row.inner_text().split())
        assert f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]" in shown
        assert row.locator("td").nth(0).inner_text() == "60"
        assert "0.9" in row.inner_text()  # its own threshold
        page.get_by_text("score = sigmoid(0.8 · logit − 0.2)").wait_for()
        page.get_by_label("Language", exact=True).select_option("ja")
        page.get_by_role("img", name="Shares of the scores in each twentieth, Japanese, threshold 0.9").wait_for()
        page.get_by_text("Not enough live scores yet").wait_for()
        assert opened.serious() == []
        assert opened.overflow() == 0
        page.get_by_role("button", name="QI active").click()
        page.get_by_text("This bundle has no metrics").wait_for()
        address = page.url
        opened.go("/")
        page.goto(address)
        page.get_by_role("heading", name="tiny-qi-2").wait_for()
        assert opened.faults == []


@pytest.mark.parametrize(("size", "scheme"), [("wide", "dark"), ("narrow", "light")])
def test_models_are_changed_on_the_page_of_the_admin_interface(browser, bundles, size, scheme):
    with running(bundles, threads=1, admin_port=0) as process:
        url, admin = process.wait_ready(), admin_url(process)
        with tab(browser, admin, size, scheme) as opened:
            page = opened.page
            opened.go("/")
            page.get_by_role("heading", name="Change QC").wait_for()
            assert page.get_by_role("link", name="Playground").count() == 0
            load(page, "qc-2", "switch")
            page.get_by_role("heading", name="tiny-qc-3").wait_for()
            page.get_by_role("button", name="Roll back").click()
            page.get_by_role("button", name="Yes").click()
            page.get_by_role("heading", name="tiny-qc-1").wait_for()
            load(page, "qc-2", "canary", share="0")
            page.get_by_role("button", name="QC challenger").click()
            page.get_by_text("canary, share 0", exact=True).wait_for()
            assert opened.serious() == []
            assert opened.overflow() == 0
            assert opened.faults == []
            load(page, "elsewhere", "switch")
            page.get_by_role("alert").get_by_text("expected a folder below").wait_for()
        with tab(browser, url, size, scheme) as opened:
            page = opened.page
            opened.go("/#/playground?q=cup&show=qc&qc=home,cups")
            page.get_by_text("Compare with the challenger tiny-qc-3").wait_for()
            body = {"task": "qc", "query": "cup", "candidates": ["home,cups"]}
            headers = {"X-Relevance-Model": "challenger"}
            answer = page.request.post(f"{url}/v1/score", data=body, headers=headers).json()
            page.get_by_text(f"challenger {answer['scores'][0]['score']:.3f}").wait_for()
            page.wait_for_function("() => !document.querySelector('.panel[aria-busy]')")
            page.wait_for_timeout(300)  # results that are asked for again fade in: half faded, their contrast is low
            assert opened.serious() == []
            assert opened.faults == []


def load(page, bundle, mode, share=None):
    """Load a bundle through the form, and say yes."""
    page.get_by_label("Load a bundle").fill(bundle)
    page.locator("#mode").select_option(mode)
    if share is not None:
        page.get_by_label("Share, 0 to 1").fill(share)
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_role("button", name="Yes").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_interactive_docs_need_no_other_host(browser, url, scheme):
    with tab(browser, url, scheme=scheme) as opened:
        page = opened.page
        opened.go("/docs")
        page.locator("#operations-default-score_v1_score_post .opblock-summary-control").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.locator(".live-responses-table .response-col_status", has_text="200").first.wait_for()
        assert opened.faults == []
