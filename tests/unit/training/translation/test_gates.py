"""The quality gates, one by one and together."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.errors import ConfigError, MachineError
from training.text.numbers import lost_number
from training.translation import checks
from training.translation.gates import Candidate, Gates, Verdict
from training.translation.options import GateOptions

HAS_LINGUA = importlib.util.find_spec("lingua") is not None
OFF = {"language": False, "similarity": None}


@pytest.mark.parametrize(
    ("source", "translation", "lost"),
    [
        ("iphone 13 case", "iphone 13 hülle", None),
        ("５x3 rug", "سجاد ٥×٣", None),
        ("1,000 pieces", "1.000 teile", None),
        ("led 10m 5v", "5v led 10m", None),
        ("6ft bathtub", "badewanne", "6"),
        ("cup", "tasse 2", "2"),
        ("iphone 13", "iphone 14", "13"),
        ("size 36 shoes", "schuhe größe 63", "36"),
        ("2x4 wood", "holz 4x2", "2"),
        ("2 x 4 wood", "holz 2×4", None),
        ("pack of 3 size 36", "größe 36 3er pack", "3"),
        ("1.5 l bottle", "flasche 1,5 l", None),
        ("1.5 l bottle", "flasche 15 l", "3/2"),
        ("½ inch pipe", "rohr 1/2 zoll", None),
        ("1½ inch pipe", "rohr 1 1/2 zoll", None),
        ("1-1/2 in. pipe", "rohr 1,5 zoll", None),
        ("1½ inch pipe", "rohr 11/2 zoll", "3/2"),
        ("3/4 drive", "antrieb 0,75", None),
        ("3/4 drive", "antrieb 4/3", "3/4"),
        ("rug 12 ft", "سجادة ١٢ قدم", None),
        ("rug 1.5 ft", "سجادة ١٫٥ قدم", None),
        ("rug 1,500 ft", "سجادة ١٬٥٠٠ قدم", None),
        ("rug 12 ft", "พรม ๑๒ ฟุต", None),
        ("rug 12 ft", "ラグ １２ フィート", None),
        ("rtx 3080ti", "rtx 3080ti grafikkarte", None),
        ("rtx 3080ti", "rtx 3800ti grafikkarte", "3080"),
        ("1,000,000 beads", "1.000.000 perlen", None),
        ("10000 beads", "10 000 perlen", None),
        ("10'000 beads", "10.000 perlen", None),
        ("1,234.5 kg", "1.234,5 kg", None),
        ("1,00,000 beads", "100000 perlen", None),
        ("0.5 carat", ".5 karat", None),
        ("size 1,2", "größe 1, 2", None),
        ("rug 20 m²", "teppich 20 qm", None),
        ("rug 20 m2", "teppich 20 m²", None),
        ("10² grid", "gitter 102", "10"),
        ("16 gb 512 gb", "512 gb 16 gb", None),
        ("iphone 12 256gb", "256 gb iphone 12", None),
        ("5 kg 10 lb", "5 lb 10 kg", "5"),
        ("usb " + "9" * 5000, "usb " + "9" * 5000, None),
        ("1/0 cable", "kabel 1/0", None),
    ],
)
def test_numbers(source, translation, lost):
    assert lost_number(source, translation) == lost


@given(st.text(st.sampled_from("0123456789.,'/ ½²x-٣๑kgm"), max_size=25))
def test_numbers_of_any_spelling_are_those_of_themselves(text):
    assert lost_number(text, text) is None
    assert lost_number(text, f"{text} 7") is not None


@pytest.mark.parametrize(
    ("source", "translation", "lost"),
    [
        ("6ft bathtub", "badewanne 6 fuß", None),
        ("6ft bathtub", "バスタブ 6フィート", None),
        ("6ft bathtub", "badewanne 6 meter", "ft"),
        ("flasche 500 ml", "زجاجة 500 مل", None),
        ("flasche 500ml", "bottle 500 oz", "ml"),
        ("ps 5 controller", "ps 5 mando", None),
    ],
)
def test_units(source, translation, lost):
    assert checks.lost_unit(source, translation) == lost


@pytest.mark.parametrize(
    ("source", "translation", "lost"),
    [
        ("bmw sr1000 spiegel", "specchio bmw sr-1000", None),
        ("iphone13ケース", "iphone 13 hülle", None),
        ("galaxy s23 case", "custodia galaxy", "s23"),
        ("honda 10th gen", "honda 10. generation", None),
        ("rug 5x3", "teppich 5 x 3", None),
    ],
)
def test_model_numbers(source, translation, lost):
    assert checks.lost_code(source, translation) == lost


@pytest.mark.parametrize(
    ("source", "translation", "target", "lost"),
    [
        ("nikeスニーカー", "nike sneaker", "de", None),
        ("nikeスニーカー", "sneaker", "de", "nike"),
        ("nikeスニーカー", "حذاء نايك", "ar", None),
        ("custodia iPhone", "hülle iphone", "de", None),
        ("custodia iPhone", "handyhülle", "de", "iPhone"),
        ("milwaukeee 드릴", "milwaukee bohrer", "de", None),
        ("RED SHOES", "rote schuhe", "de", None),
    ],
)
def test_brands(source, translation, target, lost):
    assert checks.lost_brand(source, translation, target) == lost


@pytest.mark.parametrize(
    ("source", "translation", "target", "script"),
    [
        ("cup", "tasse", "de", None),
        ("コップ", "コップ rot", "de", "KATAKANA"),
        ("nike cup", "كوب nike", "ar", None),
        ("zara", "zara", "ar", None),
        ("milwaukeee", "milwaukee", "ar", None),
        ("cup", "tasse", "ar", "LATIN"),
        ("cup", "чашка", "ar", "CYRILLIC"),
        ("cup", "コーヒー カップ", "ja", None),
        ("cup", "ถ้วย", "th", None),
        ("cup", "qalqan", "kk", "LATIN"),
        ("cup", "whatever", "xx", None),
    ],
)
def test_scripts(source, translation, target, script):
    assert checks.wrong_script(source, translation, target) == script


@pytest.mark.skipif(not HAS_LINGUA, reason="lingua-language-detector is not installed")
def test_another_language_is_found_but_brands_and_short_texts_pass():
    check = checks.LanguageCheck(["de", "it", "pl", "en", "ar"])
    assert check.wrong_language("wasserdichte jacke", "giacca impermeabile da donna", "de") == "it"
    assert check.wrong_language("veste imperméable", "wasserdichte jacke für damen", "de") is None
    assert check.wrong_language("harley davidson t", "harley davidson t", "pl") is None
    assert check.wrong_language("coupe", "cup", "de") is None


@pytest.mark.skipif(HAS_LINGUA, reason="lingua-language-detector is installed")
def test_a_missing_detector_is_named():
    with pytest.raises(MachineError, match="lingua-language-detector"):
        checks.LanguageCheck(["de", "en"])


PLACES = {"cup": (1, 0), "tasse": (1, 0.1), "hund": (-1, 0.2)}


class Axes:
    """Places known texts in a plane, the others on an axis of their own."""

    def embed(self, texts):
        vectors = np.array([(*PLACES.get(text, (0, 0)), 1.0) for text in texts], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def judged(options, source, translation, embedder=None, back=None):
    keeper = Gates(options, [("cup", "en"), ("else", "en")], ["de"], embedder)
    (verdict,) = keeper.judge([Candidate(source, "en", translation, "de")], back or (lambda texts, a, b: {}))
    return verdict


@pytest.mark.parametrize(
    ("source", "translation", "reason"),
    [
        ("red cup", "rote tasse", None),
        ("cup", "eine tasse wie sie ein käufer suchen würde", "length_ratio"),
        ("red cup", "rote чашка", "script"),
        ("red cup 2", "rote tasse", "digits"),
        ("red cup 2 oz", "rote tasse 2 ml", "units"),
        ("cup s23x", "tasse x23", "model_numbers"),
        ("cup iPhone", "tasse und mehr", "brands"),
    ],
)
def test_every_gate_gives_its_reason_and_can_be_switched_off(source, translation, reason):
    assert judged(GateOptions(**OFF), source, translation).reason == reason
    if reason:
        off = {reason: None if reason == "length_ratio" else False}
        assert judged(GateOptions(**OFF, **off), source, translation).reason != reason


def test_a_copy_passes_as_a_copy_where_no_detector_says_otherwise():
    assert judged(GateOptions(**OFF), "red cup", "cup RED") == Verdict(is_copy=True)
    assert not judged(GateOptions(**OFF), "red cup", "rote tasse").is_copy


@pytest.mark.skipif(not HAS_LINGUA, reason="lingua-language-detector is not installed")
def test_a_copy_that_is_clearly_not_in_the_target_language_is_rejected():
    options = GateOptions()
    text = "waterproof jacket for women with a hood"
    assert judged(options, text, text) == Verdict("copy_through", "en")
    assert judged(options, "nike", "nike") == Verdict(is_copy=True)


@pytest.mark.parametrize(("given", "share"), [(True, 0.1), (False, None), (0, 0), (0.25, 0.25)])
def test_the_share_of_copies_is_read_from_a_recipe(given, share):
    assert GateOptions(copy_through=given).copy_through == share


def test_similarity_is_off_unless_asked_for():
    assert GateOptions().similarity is None


def test_similarity_is_measured_and_judged():
    options = GateOptions(language=False, similarity=0)
    good, bad = (judged(options, "cup", text, Axes()) for text in ("tasse", "hund"))
    assert good.reason is None
    assert good.similarity > 0.9
    assert bad.reason == "similarity"
    assert bad.similarity < 0


def test_a_query_of_many_rows_is_embedded_once():
    class Counting(Axes):
        asked = 0

        def embed(self, texts):
            Counting.asked += len(texts)
            return super().embed(texts)

    keeper = Gates(GateOptions(language=False, similarity=0), [("cup", "en")], ["de"], Counting())
    before = Counting.asked
    candidate = Candidate("cup", "en", "tasse", "de")
    first, second = keeper.judge([candidate, candidate], lambda texts, a, b: {})
    (third,) = keeper.judge([candidate], lambda texts, a, b: {})
    assert first == second == third
    assert Counting.asked - before == 2


def test_similarity_without_an_encoder_is_an_error():
    with pytest.raises(ConfigError, match="gate similarity"):
        judged(GateOptions(language=False, similarity=0), "cup", "tasse")


def test_round_trip_where_the_backend_can():
    options = GateOptions(**OFF, round_trip=0.5)
    assert judged(options, "cup", "tasse", back=lambda texts, a, b: {"tasse": "cups"}).reason is None
    assert judged(options, "cup", "tasse", back=lambda texts, a, b: {"tasse": "dog"}).reason == "round_trip"
    assert judged(options, "cup", "tasse").reason is None  # no way back: no judgement
