"""Translation memories: formats, matching, and broken lines."""

import gzip
import json
import subprocess
import sys

import pytest

from relevance.errors import InputError
from tests import ROOT
from training.data.rows import BadRowsError
from training.translation.backends.memory import MemoryTranslator
from training.translation.backends.memory_files import Unit, read_units

DIRECTED = {"language": "en", "text": "Red  Shoes", "translations": {"de": "rote schuhe", "vn": "giày đỏ"}}
TMX = """<?xml version="1.0" encoding="{encoding}"?>
<tmx version="1.4"><header/><body>
<tu><tuv xml:lang="en-US"><seg>red <bpt i="1">&lt;b&gt;</bpt>shoes<ept i="1">&lt;/b&gt;</ept> <hi>now</hi></seg></tuv>
<tuv xml:lang="ar"><seg>حذاء أحمر</seg></tuv></tu>
<tu><tuv lang="EN"><seg>cup</seg></tuv><tuv lang="pt_BR"><seg>copo</seg></tuv></tu>
</body></tmx>
"""


def written(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_json_lines_of_one_origin_are_translated_out_of_it_only(tmp_path):
    memory = MemoryTranslator.from_files([written(tmp_path, "m.jsonl", json.dumps(DIRECTED))])
    assert memory.translate(["Red Shoes", "blue shoes"], "en", "de") == ["rote schuhe", None]
    assert memory.supports("en", "vi")
    assert not memory.supports("de", "en")


def test_aligned_json_lines_are_translated_either_way(tmp_path):
    memory = MemoryTranslator.from_files([written(tmp_path, "m.jsonl", '{"id": 1, "de": "Tasse", "en": "cup"}')])
    assert memory.translate(["Tasse"], "de", "en") == ["cup"]
    assert memory.translate(["cup"], "en", "de") == ["Tasse"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tsv_leaves_empty_fields_out(tmp_path, newline):
    text = newline.join(["en\tde\tit", "cup\tTasse\t", "bag\t\tborsa", ""])
    memory = MemoryTranslator.from_files([written(tmp_path, "m.tsv", "\ufeff" + text)])
    assert memory.translate(["cup", "bag"], "en", "it") == [None, "borsa"]
    assert memory.translate(["Tasse"], "de", "en") == ["cup"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tmx_text_comes_without_markup_codes_and_regions(tmp_path, encoding):
    path = written(tmp_path, "m.tmx", TMX.format(encoding=encoding), encoding)
    memory = MemoryTranslator.from_files([path])
    assert memory.translate(["red shoes now"], "en", "ar") == ["حذاء أحمر"]
    assert memory.translate(["cup"], "en", "pt") == ["copo"]


def test_an_exact_match_goes_before_a_folded_one():
    memory = MemoryTranslator([Unit({"en": "apple", "de": "Apfel"}), Unit({"en": "Apple", "de": "Apple"})])
    assert memory.translate(["Apple", "apple", "APPLE", "ａｐｐｌｅ"], "en", "de") == [
        "Apple",
        "Apfel",
        "Apfel",
        "Apfel",
    ]


def test_composed_and_decomposed_accents_are_the_same_text():
    memory = MemoryTranslator([Unit({"fr": "e\u0301charpe", "de": "Schal"})])
    assert memory.translate(["\u00e9charpe", "É charpe"], "fr", "de") == ["Schal", None]


@pytest.mark.parametrize("text", ["Tom &amp; Jerry", "tom\u200b & jerry", "tom &#38; jerry"])
def test_texts_that_read_the_same_are_found(text):
    memory = MemoryTranslator([Unit({"en": "tom & jerry", "de": "Tom und Jerry"})])
    assert memory.translate([text], "en", "de") == ["Tom und Jerry"]


def test_a_text_of_unknown_language_is_looked_up_in_all():
    memory = MemoryTranslator([Unit({"fr": "tasse", "en": "cup"})])
    assert memory.supports("unk", "en")
    assert memory.translate(["Tasse"], "unk", "en") == ["cup"]


def test_the_first_file_that_has_a_text_wins(tmp_path):
    paths = [written(tmp_path, f"{name}.tsv", f"en\tde\ncup\t{name}") for name in ("Tasse", "Becher")]
    memory = MemoryTranslator.from_files(paths)
    assert memory.translate(["cup"], "en", "de") == ["Tasse"]
    assert memory.name == "memory:Tasse.tsv+Becher.tsv"


def test_all_broken_lines_are_named_at_once_and_can_be_left_out(tmp_path):
    bad = ["{", "[1]", '{"language": "en", "text": "", "translations": {"de": "x"}}', '{"de": "only one"}']
    bad += ['{"language": "en", "text": "a", "translations": {"de": 7}}']
    path = written(tmp_path, "m.jsonl", "\n".join([json.dumps(DIRECTED), *bad]))
    with pytest.raises(BadRowsError) as caught:
        read_units(path)
    for part in ("5 bad of 6", "row 2", "row 3", "row 4: not text, text", "row 5", "row 6: not text, de = 7"):
        assert part in str(caught.value)
    units, report = read_units(path, skip_bad=True)
    assert len(units) == 1
    assert len(report.bad_rows) == 5


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("m.csv", "en,de", "format '.csv'"),
        ("m.tsv", "query\ttranslation of it\nx\ty", "header"),
        ("m.tmx", "<tmx><body><tu>", "no element found"),
        ("m.jsonl", "", "holds no unit"),
    ],
)
def test_a_file_that_is_no_memory(tmp_path, name, text, expected):
    with pytest.raises(InputError, match=expected):
        read_units(written(tmp_path, name, text))


def test_a_missing_file_and_another_encoding(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_units(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="UTF-8"):
        read_units(written(tmp_path, "m.tsv", "en\tde\ncup\tKüche", "latin-1"))


def test_a_short_tsv_line_is_named(tmp_path):
    with pytest.raises(BadRowsError, match="row 3: other columns"):
        read_units(written(tmp_path, "m.tsv", "en\tde\ncup\tTasse\nbag\n"))


def pairs_of(path, source, target, *texts):
    return MemoryTranslator.from_files([path]).translate(texts, source, target)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([{"id": "soft-cap", "en": "hat", "de": "hut"}], {"en", "de"}),
        ([{"id": "soft-cap", "en": "hat", "de": "hut"}, {"id": "x", "en": "cup", "fr": "tasse"}], {"en", "de", "fr"}),
        ([{"id": 7, "en": "hat", "de": "hut"}], {"en", "de"}),
        ([{"id": "topi", "en": "hat"}, {"id": "cangkir", "en": "cup"}], {"en", "id"}),
        ([{"id-ID": "topi", "en": "hat", "de": "hut"}], {"en", "de", "id"}),
        ([{"id": "a1", "id-ID": "topi", "en": "hat"}], {"en", "id"}),
        ([{"cat": "shoes", "en": "hat", "de": "hut"}], {"en", "de"}),
        ([{"eng": "hat", "deu": "hut"}], {"en", "de"}),
        ([{"language": "en", "text": "hat", "translations": {"id": "topi"}, "id": "u1"}], {"en", "id"}),
    ],
)
def test_id_is_indonesian_only_where_it_can_be_nothing_else(tmp_path, records, found):
    units, _ = read_units(written(tmp_path, "m.jsonl", "\n".join(map(json.dumps, records))))
    assert {language for unit in units for language in unit.texts} == found
    if "id" in found:
        assert units[0].texts["id"] == "topi"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["id\ten\tde", "1\that\thut", "T-2\tcup\tTasse"], {"en", "de"}),
        (["en\tde\tid", "hat\thut\ttopi"], {"en", "de", "id"}),
        (["id\ten", "topi\that"], {"en", "id"}),
    ],
)
def test_id_in_a_tsv_header(tmp_path, lines, found):
    units, _ = read_units(written(tmp_path, "m.tsv", "\n".join(lines)))
    assert {language for unit in units for language in unit.texts} == found


@pytest.mark.parametrize("first", ["hat\thut", "cup\tTasse", "red shoes\trote schuhe", "en\tfoo", "car\tden", "en"])
def test_a_tsv_without_a_header_of_known_codes_is_refused(tmp_path, first):
    with pytest.raises(InputError, match="expected a header of language codes, as en<TAB>de"):
        read_units(written(tmp_path, "m.tsv", f"{first}\ncup\tTasse\n"))


def tmx(*units, attributes=""):
    body = "".join(
        f"<tu>{''.join(f'<tuv xml:lang={code!r}><seg>{seg}</seg></tuv>' for code, seg in u)}</tu>" for u in units
    )
    return f'<tmx version="1.4"{attributes}><header/><body>{body}</body></tmx>'


def test_the_first_of_two_variants_of_a_language_counts(tmp_path):
    unit = [("en", "hat"), ("de", "Hut"), ("de", "Mütze"), ("de-AT", "Haube")]
    assert pairs_of(written(tmp_path, "m.tmx", tmx(unit)), "en", "de", "hat") == ["Hut"]
    path = written(tmp_path, "m.jsonl", json.dumps({"en": "hat", "pt-BR": "chapéu", "pt": "gorro"}))
    assert pairs_of(path, "en", "pt", "hat") == ["chapéu"]


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        ("red<ph/>shoes", "red shoes"),
        ("red<ph x='1'>{0}</ph>shoes", "red shoes"),
        ("<bpt i='1'/>red<ept i='1'/><it pos='end'/>shoes", "red shoes"),
        ("(<bpt i='1'/>red<ept i='1'/>) shoes", "(red) shoes"),
        ("red <ph/> shoes", "red shoes"),
        ("<hi>re</hi>d", "red"),
        ("紅<ph/>鞋", "紅鞋"),
    ],
)
def test_inline_codes_are_no_text_and_glue_no_words(tmp_path, segment, text):
    [unit], _ = read_units(written(tmp_path, "m.tmx", tmx([("en", segment), ("de", "x")])))
    assert unit.texts["en"] == text


@pytest.mark.parametrize("attributes", ["", ' xmlns="http://www.lisa.org/tmx14"'])
def test_tmx_with_and_without_a_namespace(tmp_path, attributes):
    path = written(tmp_path, "m.tmx", tmx([("en-GB", "hat"), ("pt-BR", "chapéu")], attributes=attributes))
    assert pairs_of(path, "en", "pt", "hat") == ["chapéu"]


def test_memories_may_be_compressed_and_utf16(tmp_path):
    (tmp_path / "m.tsv.gz").write_bytes(gzip.compress(b"en\tde\nhat\tHut\n"))
    assert pairs_of(tmp_path / "m.tsv.gz", "en", "de", "hat") == ["Hut"]
    assert pairs_of(written(tmp_path, "m.tsv", "en\tde\nhat\tHüte\n", "utf-16"), "en", "de", "hat") == ["Hüte"]


def test_the_openai_client_is_imported_by_its_own_backend_only(tmp_path):
    path = written(tmp_path, "m.tsv", "en\tde\ncup\tTasse\n")
    code = "import sys; from training.translation.backends.choice import open_translators\n"
    code += f"with open_translators(['memory:{path}']): print(sys.modules.keys() & {{'openai', 'httpx2'}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
