"""Languages by code: English names for prompts, FLORES-200 codes for NLLB."""

from relevance.tasks import UNKNOWN_LANGUAGE

# fmt: off
_LANGUAGES = """
ar Arabic arb_Arab|bg Bulgarian bul_Cyrl|bn Bengali ben_Beng|ca Catalan cat_Latn|cs Czech ces_Latn|da Danish dan_Latn
de German deu_Latn|el Greek ell_Grek|en English eng_Latn|es Spanish spa_Latn|et Estonian est_Latn|eu Basque eus_Latn
fa Persian pes_Arab|fi Finnish fin_Latn|fr French fra_Latn|gl Galician glg_Latn|he Hebrew heb_Hebr|hi Hindi hin_Deva
hr Croatian hrv_Latn|hu Hungarian hun_Latn|id Indonesian ind_Latn|it Italian ita_Latn|ja Japanese jpn_Jpan
kk Kazakh kaz_Cyrl|ko Korean kor_Hang|lt Lithuanian lit_Latn|lv Latvian lvs_Latn|ms Malay zsm_Latn|my Burmese mya_Mymr
nl Dutch nld_Latn|no Norwegian nob_Latn|pl Polish pol_Latn|pt Portuguese por_Latn|ro Romanian ron_Latn
ru Russian rus_Cyrl|sk Slovak slk_Latn|sl Slovenian slv_Latn|sv Swedish swe_Latn|sw Swahili swh_Latn
ta Tamil tam_Taml|te Telugu tel_Telu|th Thai tha_Thai|tl Tagalog tgl_Latn|tr Turkish tur_Latn|uk Ukrainian ukr_Cyrl
ur Urdu urd_Arab|vi Vietnamese vie_Latn|zh Chinese zho_Hans
"""
# fmt: on

_ENTRIES = [entry.split() for entry in _LANGUAGES.replace("\n", "|").split("|") if entry]
_FIELDS = {code: (name, flores) for code, name, flores in _ENTRIES}


def language_name(code: str) -> str:
    """Return the English name of a language, or its code where it is not in the table."""
    return "unknown" if code == UNKNOWN_LANGUAGE else _FIELDS.get(code, (code, ""))[0]


def flores_code(code: str) -> str | None:
    """Return the FLORES-200 code of a language as NLLB uses it, or None where it is not in the table."""
    return _FIELDS[code][1] if code in _FIELDS else None
