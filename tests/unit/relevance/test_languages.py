import pytest

from relevance.errors import ConfigError
from relevance.languages import chosen_languages, normalize_language

# fmt: off
SAME = {
    "pt": "pt PT pt-BR pt_BR PT_br pt-Latn-BR por POR pt_BR.UTF-8 \tpt-BR\n pt-BR-u-co-phonebk pt-x-shop",
    "zh": "zh zh-CN zh_CN zh_Hans zh-Hant-TW zh-Hant zho chi cmn cmn-Hans-CN zh-cmn zh-min-nan cn",
    "es": "es es-419 es_MX ES-es spa",
    "he": "he iw iw-IL heb IW he-IL",
    "id": "id in in-ID ind",
    "yi": "yi ji yid",
    "jv": "jv jw jav",
    "ro": "ro mo mol ron rum ro-MD",
    "sr": "sr sh sr-Latn-RS sr_RS@latin srp hbs scc",
    "vi": "vi vn VN VI vi-VN vie",
    "ja": "ja jp JP ja-JP jpn",
    "en": "en en-GB en_US EN-us eng en-GB-oed en-u-hc-h12 en-a-bbb-x-a-ccc",
    "de": "de de-AT de-CH-1901 de-1996 deu ger de_DE@euro",
    "sl": "sl sl-rozaj-biske-1994 slv",
    "nb": "nb nob nb-NO", "no": "no nor", "nl": "nl dut nld nl-BE", "fa": "fa per fas pes",
    "ar": "ar ara arb ar-EG ar-arb ar-EGY ar-ARE", "arz": "arz ar-arz ara-arz-EG",
    "cs": "cs cz cze ces", "uk": "uk ua ukr", "el": "el gr gre ell", "da": "da dk dan", "fr": "fr fre fra fr-CA",
    "fil": "fil fil-PH", "tl": "tl tgl", "ceb": "ceb", "yue": "yue yue-HK zh-yue zh_yue-HK zho-yue-Hant",
    "gsw": "gsw gsw-CH", "ckb": "ckb",
    "unk": "unk UNK und und-Latn none None nan NaN null NULL nil na N/A n/a xx xx-XX mul zxx mis x-klingon i-klingon "
           "english tlhingan 12 1 - _ ? - pt- -pt pt--BR pt-BR; pt,es en;q=0.8 p t-br pt-muchtoolong root C",
}
# fmt: on


@pytest.mark.parametrize(("tag", "code"), [(tag, code) for code, tags in SAME.items() for tag in tags.split()])
def test_tag_becomes_the_code_of_its_language(tag, code):
    assert normalize_language(tag) == normalize_language(f"  {tag} ") == code


@pytest.mark.parametrize("tag", [None, "", "  ", "pt BR", "pt-BR\x00", "zh-\u4e2d", "a" * 100_000])
def test_what_is_no_tag_is_unknown(tag):
    assert normalize_language(tag) == "unk"


@pytest.mark.parametrize("code", sorted(set(SAME) | {"unk"}))
def test_codes_stay_as_they_are(code):
    assert normalize_language(code) == code


def test_chosen_languages_come_once():
    assert chosen_languages("--language", ["pt-BR", "por", "iw", "UNK"]) == ("pt", "he", "unk")


@pytest.mark.parametrize("tag", ["xx", "", "none", "english"])
def test_a_choice_of_no_known_language_is_an_error(tag):
    with pytest.raises(ConfigError, match=f"--held-out: '{tag}' is no known language; expected a code"):
        chosen_languages("--held-out", ["de", tag])
