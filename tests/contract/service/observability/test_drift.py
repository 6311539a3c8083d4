"""Drift in the metrics of a real service: in this process."""

import re

import numpy as np
import onnxruntime
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from tokenizers import models, pre_tokenizers

from relevance.model.bundle import MODEL_FILE, Bundle, Golden, write_bundle_files
from relevance.model.card import TOKENIZER_FILE, ModelCard, score_reference
from relevance.tasks import Pair, Task
from relevance.text.tokenization import PairTokenizer
from service.observability.drift import Drift, Reference
from service.observability.drift_metrics import BUCKETS, ScoreHistogramCollector
from service.runtime.session import Engine
from tests.serving import in_process
from tests.tiny import MAX_LENGTH, PAD_ID, tiny_bundle, tiny_tokenizer

TEXTS = [f"Shoes {number}" for number in range(300)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A bundle as older versions wrote them: no histograms."""
    folder = tmp_path_factory.mktemp("plain") / "qi"
    tiny_bundle(folder, Task.QI)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle whose reference are its own scores of TEXTS, in English, and low ones in Spanish."""
    folder = tmp_path_factory.mktemp("bundle") / "qi"
    tiny_bundle(folder, Task.QI)
    opened = Bundle.open(folder)
    engine, manifest = Engine(opened), opened.manifest
    pairs = [Pair("shoes", text, "en") for text in TEXTS]
    scores = manifest.scores(engine.logits(engine.inputs.encode(pairs)))
    found = score_reference(np.append(scores, np.zeros(100)), ["en"] * 300 + ["es"] * 100)
    write_bundle_files(folder, manifest.model_copy(update=found), opened.golden)
    return folder


@pytest.fixture(scope="module")
def wordy(tmp_path_factory):
    """A bundle whose tokenizer knows two words."""
    folder = tmp_path_factory.mktemp("wordy") / "qi"
    manifest = tiny_bundle(folder, Task.QI)
    tokenizer, words = tiny_tokenizer(), ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "red", "shoes"]
    tokenizer.model = models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / TOKENIZER_FILE))
    known = Pair("red", "shoes", "en")
    reads = PairTokenizer.from_file(folder / TOKENIZER_FILE, MAX_LENGTH, PAD_ID)
    pairs = reads.encode_pairs([manifest.format.texts(Task.QI, known)])
    arrays, session = {"input_ids": [pairs[0].input_ids]}, onnxruntime.InferenceSession(str(folder / MODEL_FILE))
    arrays["attention_mask"] = [[1] * len(pairs[0])]
    logit = float(session.run(["logits"], arrays)[0][0])
    golden = Golden(query=known.query, candidate=known.candidate, language="en", label=1, logit=logit)
    write_bundle_files(folder, manifest, [golden])
    return folder


def values(page, name):
    """The values of a metric by its labels."""
    lines = re.findall(rf"^{name}{{([^}}]*)}} (\S+)$", page, re.MULTILINE)
    return {labels: float(value) for labels, value in lines}


def body(language="en", count=300):
    return {"task": "qi", "query": "shoes", "candidates": TEXTS[:count], "language": language}


async def page_of(client):
    return (await client.get("/metrics")).text


def test_series_are_there_before_the_first_request_and_stay_the_same(bundle):
    async def scenario(client, service):
        before = await page_of(client)
        await client.post("/v1/score", json=body())
        return before, await page_of(client)

    before, after = in_process({Task.QI: bundle}, scenario, drift_min_scores=100)
    names = [{line.rsplit(" ", 1)[0] for line in page.splitlines() if "relevance_" in line} for page in (before, after)]
    assert names[0] == names[1]
    indices = values(before, "relevance_score_psi")
    assert set(indices) == {f'language="{each}",task="qi"' for each in ("all", "en", "es")}
    assert all(np.isnan(value) for value in indices.values())
    assert np.isnan(values(before, "relevance_language_mix_psi")['task="qi"'])
    assert "relevance_score_window" not in before


def test_traffic_like_the_reference_is_told_from_other_traffic(bundle):
    async def scenario(client, service):
        await client.post("/v1/score", json=body("en"))
        await client.post("/v1/score", json=body("es", 100))
        same = await page_of(client)
        for _ in range(5):
            await client.post("/v1/score", json=body("es"))
        return same, await page_of(client)

    same, other = in_process({Task.QI: bundle}, scenario, drift_min_scores=100)
    indices = values(same, "relevance_score_psi")
    assert indices['language="en",task="qi"'] == pytest.approx(0, abs=1e-9)
    assert indices['language="es",task="qi"'] > 0.25  # the reference's Spanish scores are all 0
    assert values(same, "relevance_language_mix_psi")['task="qi"'] == pytest.approx(0, abs=1e-9)
    assert values(other, "relevance_language_mix_psi")['task="qi"'] > 0.25
    assert values(other, "relevance_score_psi")['language="en",task="qi"'] == pytest.approx(0, abs=1e-9)


def test_scores_are_in_the_histogram_of_their_language(bundle):
    async def scenario(client, service):
        answer = await client.post("/v1/score", json=body("es", 40))
        return [each["score"] for each in answer.json()["scores"]], await page_of(client)

    scores, page = in_process({Task.QI: bundle}, scenario)
    buckets = values(page, "relevance_score_bucket")
    assert len([labels for labels in buckets if 'language="es"' in labels]) == 21
    for place in range(1, 21):
        within = sum(score < place / 20 for score in scores)
        assert buckets[f'language="es",le="{place / 20}",task="qi"'] == within
    assert values(page, "relevance_score_count")['language="es",task="qi"'] == 40
    assert values(page, "relevance_score_sum")['language="es",task="qi"'] == pytest.approx(sum(scores))
    assert sum(values(page, "relevance_score_count").values()) == 40


def test_older_bundle_has_no_index_and_no_fault(plain):
    async def scenario(client, service):
        answer = await client.post("/v1/score", json=body())
        return answer.status_code, await page_of(client)

    status, page = in_process({Task.QI: plain}, scenario, drift_min_scores=1)
    assert status == 200
    assert values(page, "relevance_score_psi") == values(page, "relevance_language_mix_psi") == {}
    assert sum(values(page, "relevance_score_count").values()) == 300


def test_tokens_out_of_the_vocabulary_are_counted_in_recurring_text_too(wordy):
    async def scenario(client, service):
        counts = []
        for query in ("red", "red 靴", "red 靴"):
            await client.post("/v1/score", json={"task": "qi", "query": query, "candidates": ["shoes", "red hat x"]})
            counts.append(values(await page_of(client), "relevance_unknown_tokens_total")['task="qi"'])
        return counts

    assert in_process({Task.QI: wordy}, scenario) == [2, 6, 10]


def test_another_version_starts_with_an_empty_window():
    def drift(*languages):
        mix = np.repeat(languages, 100).tolist()
        card = ModelCard.model_construct(**score_reference(np.linspace(0, 1, len(mix)), mix))
        return Drift(Reference.of(card, 100), (*languages, "unk", "other"), 3600)

    async def scenario(client, service):
        first, second = drift("en", "fr"), drift("en", "de", "pl")
        first.add(np.full((4, 20), 50))
        pages = []
        for each in (first, second):
            service.metrics.drift.set_active(Task.QI, each)
            pages.append(values(service.metrics.page().decode(), "relevance_score_psi"))
        return pages

    before, after = in_process({}, scenario)
    assert {labels.split('"')[1]: np.isnan(value) for labels, value in before.items()} == dict.fromkeys(
        ("all", "en", "fr"), False
    )
    assert {labels.split('"')[1]: np.isnan(value) for labels, value in after.items()} == dict.fromkeys(
        ("all", "de", "en", "pl"), True
    )


def test_many_observations_at_once_are_as_one_by_one():
    one = Histogram("one", "", registry=(registry := CollectorRegistry()), buckets=BUCKETS)
    registry.register(many := ScoreHistogramCollector("many", ""))
    for place, count in enumerate(range(20)):
        for _ in range(count):
            one.observe(place / 20 + 0.01)
    many.add("qi", "en", np.arange(20), sum(count * (place / 20 + 0.01) for place, count in enumerate(range(20))))
    lines = [line.rsplit(" ", 1) for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]
    values = [
        [float(v) for key, v in lines if key.startswith(name) and "created" not in key] for name in ("one", "many")
    ]
    assert values[0] == pytest.approx(values[1])
    assert len(values[1]) == 23
    assert {re.sub(r".*le=|[,}].*", "", key) for key, _ in lines if "one_bucket" in key} == {
        re.sub(r".*le=|[,}].*", "", key) for key, _ in lines if "many_bucket" in key
    }
