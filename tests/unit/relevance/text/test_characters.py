import html
import sys
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.text.characters import _SPACED_BY_NFKC, COMMA_FORMS, normalize

WRITTEN = {
    "thai": "น้ำดื่ม รองเท้าผู้หญิง ทำความสะอาด",
    "arabic": "مشابك شعر للنساء، قميص",
    "persian": "می‌خواهم کتاب‌ها",
    "japanese": "自転車 サスペンション キーボード カバー 〜 々",
    "korean": "자전거 안장 ㅋㅋ",
    "devanagari": "महिलाओं के जूते क्‍ष र्‍य",
    "bengali": "শাড়ী র‍্যাম",
    "malayalam": "അവന്‍ ചെരുപ്പ്",
    "khmer": "ស្បែក​ជើង",
    "hebrew": "נעלי נשים",
    "greek": "γυναικεία παπούτσια",
    "cyrillic": "женские туфли ёлка й",
    "polish": "żaluzja do okna łódź",
    "vietnamese": "giày nữ đế bằng",
    "emoji": "👨‍👩‍👧 ❤️‍🔥 shirt",
    "quotes": "l´eau 24″ x 10² TV 5' 6\"",
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_text_of_every_script_survives_unchanged(text: str) -> None:
    assert normalize(text) == (text, frozenset())


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        ("Briggs &amp; Stratton", "Briggs & Stratton", "entities"),
        ("Men&#39;s &amp;quot;L&amp;quot;", 'Men\'s "L"', "entities"),
        ("a&nbsp;b", "a b", "other_spaces"),
        ("パーツ　デコ", "パーツ デコ", "other_spaces"),
        ("a\u00a0b", "a b", "other_spaces"),
        ("a\u0089b\x00", "ab", "controls"),
        ("butt\u200bon \ufeffplug\u00ad", "button plug", "invisible"),
        ("ab\u200cc", "abc", "invisible"),
        ("４ｍｚ （ﾃｽﾄ）", "4mz (テスト)", "nfkc"),
        ("1½ in ⅓", "1 1/2 in 1/3", "nfkc"),
        ("e\u0301cran", "\u00e9cran", "nfkc"),
        (" two  words ", "two words", "spaces"),
    ],
)
def test_step_changes_what_it_is_for_and_is_named(before: str, after: str, step: str) -> None:
    text, steps = normalize(before)
    assert text == after
    assert step in steps


def test_names_without_semicolon_are_no_entities() -> None:
    assert normalize("sports &section &copyright &custom; x&y")[0] == "sports &section &copyright &custom; x&y"


def test_text_of_nothing_visible_stays_as_it_is() -> None:
    assert normalize("\u200b\ufeff") == ("\u200b\ufeff", frozenset())


@given(st.text(max_size=40))
def test_normalizing_twice_equals_once(text: str) -> None:
    once, _ = normalize(text)
    assert normalize(once) == (once, frozenset())


@given(st.text(st.sampled_from("&;＆；ampltg#x3942１０½² \u200b\u200c\u200d\u0645\u0947"), max_size=30))
def test_normalizing_twice_equals_once_around_entities_and_joiners(text: str) -> None:
    once, _ = normalize(text)
    assert normalize(once) == (once, frozenset())


@given(st.text(st.characters(categories=["Ll", "Lu", "Lo", "Lt"]), min_size=1, max_size=20))
def test_letters_of_any_script_are_never_lost(text: str) -> None:
    result, _ = normalize(text)

    def letters(value: str) -> Counter[str]:
        folded = unicodedata.normalize("NFKC", html.unescape(value))
        return Counter(c for c in folded if c.isalpha())

    assert letters(result) == letters(text)


def test_full_width_comma_stays_inside_its_level() -> None:
    assert normalize("home，（decor）,signs", COMMA_FORMS)[0] == "home，(decor),signs"


def test_signs_that_nfkc_makes_a_space_and_an_accent_are_all_known() -> None:
    forms = {chr(c): unicodedata.normalize("NFKC", chr(c)) for c in range(sys.maxunicode + 1)}
    assert {c for c, form in forms.items() if form != " " and form.startswith(" ")} == {
        c for c in forms if _SPACED_BY_NFKC.match(c)
    }


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("&" + "amp;" * 100_000, "&"),
        ("&" * 100_000 + ";" * 100_000, "&" * 100_000 + ";" * 100_000),
        ("a\u200c" * 100_000, "a" * 100_000),
    ],
    ids=["nested", "open", "marks"],
)
def test_a_hostile_text_is_read_in_time_that_grows_with_its_length(text: str, left: str) -> None:
    assert normalize(text)[0] == left  # quadratic work would take minutes
