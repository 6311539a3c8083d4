"""Cutting layers and vocabulary, on small random models: layers and tokens that stay compute just what they did."""

import json
import logging
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    XLMRobertaConfig,
)

from relevance.errors import CheckpointError, ConfigError, MachineError
from training.models.base import base_models
from training.models.base.base_models import BaseModel, resolve_base_model
from training.models.base.prepared import EncoderOptions, prepare_encoder, select_word_embeddings
from training.models.base.vocabulary import SCRIPTS, needed_ids, trimmed_tokenizer

CORPUS = [
    "red running shoes for women",
    "red shoes, size 38",
    "rote Laufschuhe für Damen",
    "женские кроссовки для бега",
    "running shoes > women > sport",
    "赤いランニングシューズ",
    "blue kitchen table 120 cm",
    "table and chairs for the kitchen",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
DECODER = {**SMALL, "num_key_value_heads": 2}
IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
CONFIGS = {
    "bert": lambda v: BertConfig(vocab_size=v, **SMALL, **IDS),
    "xlm-roberta": lambda v: XLMRobertaConfig(vocab_size=v, **SMALL, **IDS),
    "distilbert": lambda v: DistilBertConfig(vocab_size=v, dim=16, n_layers=4, n_heads=2, hidden_dim=32),
    "modernbert": lambda v: ModernBertConfig(vocab_size=v, **SMALL, **IDS, cls_token_id=0, sep_token_id=2),
    "qwen2": lambda v: Qwen2Config(vocab_size=v, **DECODER, **IDS),
    "llama": lambda v: LlamaConfig(vocab_size=v, **DECODER, **IDS),
}
# Its code in transformers compiles with torch.jit when it is imported.
MODERNBERT = pytest.param("modernbert", marks=pytest.mark.filterwarnings("ignore:`torch.jit"))


def unigram() -> PreTrainedTokenizerFast:
    """Whole words, their halves and all characters of the corpus; longer pieces score higher, later ones lower."""
    words = sorted({word for text in CORPUS for word in text.split()})
    halves = {half for word in words for half in (f"▁{word[: len(word) // 2]}", word[len(word) // 2 :])}
    pieces = [*(f"▁{word}" for word in words), *sorted(halves), *sorted({*"".join(CORPUS), "▁"} - {" "})]
    scores = {piece: -12 + min(len(piece), 7) - i / 1000 for i, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.Unigram([*((token, 0.0) for token in SPECIAL), *scores.items()], 3, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    backend.add_special_tokens([AddedToken("<extra>", special=True)])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return wrap(backend)


def wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def reordered(token: str, place: int, post_processor: dict) -> PreTrainedTokenizerFast:
    """The Unigram tokenizer with one special token at another id."""
    spec = {**json.loads(unigram().backend_tokenizer.to_str()), "post_processor": post_processor}
    vocabulary = spec["model"]["vocab"]
    vocabulary.insert(place, vocabulary.pop(SPECIAL.index(token)))
    places = {piece: i for i, (piece, _) in enumerate(vocabulary)}
    spec["model"]["unk_id"] = places["<unk>"]
    spec["added_tokens"] = [{**t, "id": places.get(t["content"], t["id"])} for t in spec["added_tokens"]]
    spec["added_tokens"].sort(key=lambda added: added["id"])
    return wrap(Tokenizer.from_str(json.dumps(spec)))


def save_base(folder, kind="bert", tokenizer=None, **token_ids) -> BaseModel:
    tokenizer = tokenizer or unigram()
    torch.manual_seed(0)
    config = CONFIGS[kind](len(tokenizer))
    config.update(token_ids)
    model = AutoModel.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BaseModel("tiny", folder, "MIT", "1")


@pytest.fixture
def base(tmp_path) -> BaseModel:
    return save_base(tmp_path / "base")


def hidden_states(folder, texts, second=None):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(texts, second, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True), model, inputs["input_ids"], tokenizer


@pytest.mark.parametrize("kind", [MODERNBERT if kind == "modernbert" else kind for kind in CONFIGS])
def test_the_layers_that_stay_compute_what_they_did(tmp_path, kind):
    base = save_base(tmp_path / "base", kind)

    report = prepare_encoder(base, tmp_path / "cut", EncoderOptions(layers=2))

    full, model, *_ = hidden_states(base.path, CORPUS[:3])
    cut, *_ = hidden_states(tmp_path / "cut", CORPUS[:3])
    after = {"modernbert": "final_norm", "qwen2": "norm", "llama": "norm"}.get(kind)
    expected = getattr(model, after)(full.hidden_states[2]) if after else full.hidden_states[2]
    assert torch.equal(cut.last_hidden_state, expected)
    assert (report.before.layers, report.after.layers) == (4, 2)
    assert report.after.parameters < report.before.parameters


def test_a_model_without_a_stack_of_layers_is_refused(tmp_path):
    base = save_base(tmp_path / "base")
    shared = AlbertConfig(vocab_size=200, embedding_size=8, **SMALL)
    AutoModel.from_config(shared).save_pretrained(base.path)

    with pytest.raises(ConfigError, match="type 'albert': no list of 4 layers"):
        prepare_encoder(base, tmp_path / "cut", EncoderOptions(layers=2))


@pytest.mark.parametrize("layers", [0, -1, 5])
def test_layers_out_of_range_name_the_layer_count(tmp_path, base, layers):
    with pytest.raises(ConfigError, match=rf"layers {layers}: BertModel has 4; expected 1 to 4"):
        prepare_encoder(base, tmp_path / "cut", EncoderOptions(layers=layers))
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", MODERNBERT])
def test_a_trimmed_vocabulary_changes_nothing_on_the_corpus(tmp_path, kind):
    base = save_base(tmp_path / "base", kind)
    kept = [*CORPUS[:3], "unknown ☃ character", "typed </s> token"]

    report = prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_corpus=iter(kept)))

    pairs = (kept, kept[::-1])
    full, _, full_ids, full_tokenizer = hidden_states(base.path, *pairs)
    trimmed, _, ids, tokenizer = hidden_states(tmp_path / "trimmed", *pairs)
    assert report.after.vocabulary < report.before.vocabulary
    assert [tokenizer.convert_ids_to_tokens(row) for row in ids] == [
        full_tokenizer.convert_ids_to_tokens(row) for row in full_ids
    ]
    assert torch.allclose(trimmed.last_hidden_state, full.last_hidden_state, rtol=0, atol=1e-6)


def test_the_price_of_an_unknown_character_stays():
    pieces = [*((token, 0.0) for token in SPECIAL), ("▁", -1), ("a", -20), ("b☃", -20), ("ab", -1), ("unused", -35)]
    backend = Tokenizer(models.Unigram(pieces, 3, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer, texts = wrap(backend), ["ab☃", "ab"]
    before = [tokenizer.tokenize(text) for text in texts]

    # Were the unused piece gone, <unk> would cost 30 rather than 45, and `ab <unk>` beat `a b☃`.
    kept = needed_ids(tokenizer, texts)
    assert [trimmed_tokenizer(tokenizer, kept).tokenize(text) for text in texts] == before
    without = trimmed_tokenizer(tokenizer, [i for i in kept if i != len(pieces) - 1])
    assert [without.tokenize(text) for text in texts] != before


def test_special_tokens_keep_their_roles_after_trimming(tmp_path, base):
    prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_corpus=["red shoes"]))

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "trimmed")
    model = AutoModel.from_pretrained(tmp_path / "trimmed")
    assert len(tokenizer) == model.config.vocab_size == model.get_input_embeddings().num_embeddings
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL[:4]] == [0, 1, 2, 3]
    assert tokenizer.convert_tokens_to_ids(["<mask>", "<extra>"]) == [4, len(tokenizer) - 1]
    assert (model.config.pad_token_id, model.config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert tokenizer("red", "shoes").input_ids.count(2) == 3


def test_ids_that_move_are_followed_by_configuration_and_template(tmp_path):
    processor = {"type": "RobertaProcessing", "sep": ["</s>", 100], "cls": ["<s>", 0]}
    tokenizer = reordered("</s>", 100, {**processor, "trim_offsets": True, "add_prefix_space": True})
    base = save_base(tmp_path / "base", tokenizer=tokenizer, eos_token_id=[100])

    prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_corpus=["red shoes"]))

    trimmed, _, ids, tokenizer = hidden_states(tmp_path / "trimmed", ["red shoes"])
    end = tokenizer.convert_tokens_to_ids("</s>")
    assert end < 100
    assert AutoModel.from_pretrained(tmp_path / "trimmed").config.eos_token_id == [end]
    assert ids[0, -1] == end
    assert torch.equal(trimmed.last_hidden_state, hidden_states(base.path, ["red shoes"])[0].last_hidden_state)


def test_ids_that_only_the_configuration_names_stay(tmp_path):
    base = save_base(tmp_path / "base", pad_token_id=30)
    prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_corpus=["red shoes"]))

    (before, after) = (AutoTokenizer.from_pretrained(folder) for folder in (base.path, tmp_path / "trimmed"))
    pad_id = AutoModel.from_pretrained(tmp_path / "trimmed").config.pad_token_id
    assert after.convert_ids_to_tokens(pad_id) == before.convert_ids_to_tokens(30)
    assert pad_id < 30


def test_selected_embeddings_keep_their_padding_row():
    model = AutoModel.from_config(BertConfig(vocab_size=50, **SMALL, pad_token_id=30))
    rows = model.get_input_embeddings().weight.detach().clone()

    select_word_embeddings(model, [0, 7, 30])

    embeddings = model.get_input_embeddings()
    assert torch.equal(embeddings.weight, rows[[0, 7, 30]])
    assert (embeddings.padding_idx, embeddings.num_embeddings, model.config.vocab_size) == (2, 3, 3)


def test_positions_counted_from_the_padding_id_do_not_shift(tmp_path):
    template = {**json.loads(unigram().backend_tokenizer.to_str())["post_processor"]}
    for token, place in (("<s>", 0), ("</s>", 1)):
        template["special_tokens"][token]["ids"] = [place]
    base = save_base(tmp_path / "base", "xlm-roberta", reordered("<pad>", 20, template), pad_token_id=20)

    prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_corpus=["red shoes"]))

    trimmed, full = (hidden_states(folder, ["red shoes"])[0] for folder in (tmp_path / "trimmed", base.path))
    assert torch.equal(trimmed.last_hidden_state, full.last_hidden_state)


def test_scripts_keep_their_characters_and_only_theirs(tmp_path, base):
    prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_scripts=("Katakana", "CJK")))

    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "trimmed").get_vocab()
    assert {"ン", "シ", "ー", "赤", "8", ">", "r", "▁"} <= vocabulary.keys()
    assert "ж" not in vocabulary
    assert "▁running" in AutoTokenizer.from_pretrained(base.path).get_vocab()
    assert all(len(piece.replace("▁", "")) <= 1 for piece in vocabulary.keys() - {*SPECIAL, "<extra>"})


def test_whole_scripts_keep_longer_tokens_of_these_scripts_only(tmp_path, base):
    options = EncoderOptions(trim_scripts=("CYRILLIC",), whole_scripts=True)
    prepare_encoder(base, tmp_path / "trimmed", options)

    before = AutoTokenizer.from_pretrained(base.path).get_vocab().keys()
    after = AutoTokenizer.from_pretrained(tmp_path / "trimmed").get_vocab().keys()
    words = {piece for piece in before if len(piece) > 2 and piece not in SPECIAL}
    assert {piece for piece in words if "CYRILLIC" in piece or any("а" <= c <= "я" for c in piece)} <= after
    assert not {piece for piece in words if piece.strip("▁").isascii() and piece.strip("▁").isalpha()} & after


def test_an_unknown_script_is_refused_with_the_list_of_known_ones(tmp_path, base):
    with pytest.raises(ConfigError, match="script 'KLINGON': unknown; expected one of ARABIC, ARMENIAN") as error:
        prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_scripts=("LATIN", "KLINGON")))
    assert all(name in str(error.value) for name in SCRIPTS)


def test_trimming_refuses_a_bpe_tokenizer_by_type(tmp_path):
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    base = save_base(tmp_path / "base", tokenizer=wrap(backend))

    with pytest.raises(ConfigError, match="tokenizer's type is BPE; expected Unigram"):
        prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_corpus=CORPUS))
    assert prepare_encoder(base, tmp_path / "cut", EncoderOptions(layers=1)).after.layers == 1


def test_a_tokenizer_larger_than_its_model_is_refused(tmp_path, base):
    AutoModel.from_config(CONFIGS["bert"](50)).save_pretrained(base.path)
    with pytest.raises(CheckpointError, match="the model has only 50 word embeddings"):
        prepare_encoder(base, tmp_path / "trimmed", EncoderOptions(trim_corpus=CORPUS))


def test_preparing_keeps_absent_poolers_absent_and_says_so_to_nobody(tmp_path, caplog):
    base = save_base(tmp_path / "base")
    model = AutoModel.from_pretrained(base.path, add_pooling_layer=False)
    model.save_pretrained(base.path)
    caplog.set_level(logging.WARNING, "transformers")
    caplog.clear()

    report = prepare_encoder(base, tmp_path / "cut", EncoderOptions())

    assert not caplog.records
    _, info = AutoModel.from_pretrained(tmp_path / "cut", output_loading_info=True, add_pooling_layer=False)
    assert not any(info.values())
    assert report.before == report.after
    assert report.after.parameters == model.num_parameters()


def test_weights_that_are_missing_are_named(tmp_path, base):
    model = AutoModel.from_pretrained(base.path)
    lacking = {k: v for k, v in model.state_dict().items() if "layer.1.output" not in k}
    model.save_pretrained(base.path, state_dict=lacking)

    with pytest.raises(CheckpointError, match=r"no weights for \['encoder.layer.1.output.LayerNorm.bias'"):
        prepare_encoder(base, tmp_path / "cut", EncoderOptions())


def test_damaged_weights_are_named(tmp_path, base):
    (base.path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="its model cannot be loaded"):
        prepare_encoder(base, tmp_path / "cut", EncoderOptions())


class _Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path, base):
    (base.path / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": _Payload(tmp_path / "ran")}, base.path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="its model cannot be loaded"):
        prepare_encoder(base, tmp_path / "cut", EncoderOptions())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("tokenizer.json", b"{}", "tokenizer"),
        ("tokenizer.json", b'{"model": {"type": "BPE"}}', "tokenizer"),
        ("tokenizer.json", b"\xff", "tokenizer"),
        ("tokenizer_config.json", b"[]", "tokenizer"),
        ("config.json", b"[]", "(model|tokenizer)"),
        ("config.json", b'{"model_type": "bert", "hidden_size": "wide"}', "(model|tokenizer)"),
        ("config.json", b'{"model_type": "bert", "num_hidden_layers": null}', "(model|tokenizer)"),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0{}", "model"),
    ],
)
def test_files_that_are_broken_are_of_a_named_part(tmp_path, base, file, content, part):
    (base.path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"its {part} cannot be loaded"):
        prepare_encoder(base, tmp_path / "cut", EncoderOptions())


def test_a_prepared_folder_is_a_base_model_that_keeps_name_and_licence(tmp_path, base):
    first = resolve_base_model(str(base.path))
    prepare_encoder(base, tmp_path / "cut", EncoderOptions(layers=3))
    second = resolve_base_model(str(tmp_path / "cut"))

    assert (first.name, first.license) == ("base", "unknown")
    assert (second.name, second.license, second.path) == ("tiny", "MIT", tmp_path / "cut")
    assert first.revision.startswith("content sha256 ")
    assert first.revision != second.revision


def test_a_fine_tuned_checkpoint_is_a_base_model_that_names_its_own_base_and_licence(base):
    """Of any format version: only its encoder is taken."""
    card = {"format_version": 1, "task": "qi", "base_model": "tiny", "license": "MIT"}
    (base.path / "card.json").write_text(json.dumps(card))
    found = resolve_base_model(str(base.path))
    assert (found.name, found.license) == ("base (QI model of tiny)", "MIT")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_card_of_something_else_says_nothing_of_a_base_model(base, content):
    (base.path / "card.json").write_text(content)
    assert (resolve_base_model(str(base.path)).name, resolve_base_model(str(base.path)).license) == ("base", "unknown")


def test_only_prepared_or_empty_folders_are_replaced(tmp_path, base):
    out = tmp_path / "out"
    out.mkdir()
    prepare_encoder(base, out, EncoderOptions(layers=3))
    assert prepare_encoder(base, out, EncoderOptions(layers=2)).after.layers == 2
    assert AutoModel.from_pretrained(out).config.num_hidden_layers == 2

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(ConfigError, match="already there and no prepared encoder"):
        prepare_encoder(base, tmp_path / "mine", EncoderOptions())
    with pytest.raises(ConfigError, match="is the base model's own folder"):
        prepare_encoder(base, base.path, EncoderOptions(layers=1))


@pytest.mark.parametrize("name", ["packaged:bert", "./no/such/folder", "", "no-owner/no-such-model"])
def test_a_name_that_stands_for_nothing_is_refused_with_the_accepted_forms(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError) as error:
        resolve_base_model(name)
    for part in (repr(name), "packaged:multilingual-e5-small", "a local model folder", "the id of a hub model"):
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["./base", "models/bsae", "../bsae/v1", "a/b/c"])
def test_a_mistyped_folder_is_not_looked_up_on_a_hub(tmp_path, monkeypatch, name):
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base_models.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("asked a hub"))
    with pytest.raises(ConfigError, match=r"no such folder; expected .*a local model folder \(config.json and"):
        resolve_base_model(name)


def test_a_hub_id_that_cannot_be_loaded_may_be_a_mistyped_folder(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="no such folder, and no hub model of this id can be loaded"):
        resolve_base_model("buidl/encoder")


def test_the_files_of_a_model_are_hashed_once(base, monkeypatch):
    hashed = []
    monkeypatch.setattr(base_models, "sha256_of", lambda file: hashed.append(file.name) or "0")
    assert resolve_base_model(str(base.path)) == resolve_base_model(str(base.path))
    assert sorted(hashed) == sorted(set(hashed))
    (base.path / "config.json").write_text((base.path / "config.json").read_text())
    resolve_base_model(str(base.path))
    assert hashed[-1] == "config.json"


def test_a_folder_without_weights_is_refused(tmp_path, base):
    (base.path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"expected a folder with config.json and \*.safetensors"):
        resolve_base_model(str(base.path))


def test_a_cache_that_cannot_be_made_is_named_with_its_mend(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.delenv("RELEVANCE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(MachineError, match=r"home.* is no folder; .*set RELEVANCE_CACHE to a folder"):
        resolve_base_model("packaged:multilingual-e5-small")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RELEVANCE_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(MachineError, match="home folder: none is known; set RELEVANCE_CACHE"):
        resolve_base_model("packaged:multilingual-e5-small")


def test_a_hub_that_cannot_be_reached_is_one_line_before_and_one_after(monkeypatch, caplog):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with caplog.at_level("INFO"), pytest.raises(ConfigError, match="no such folder, and no hub model"):
        resolve_base_model("no-owner/no-such-model")
    told = "base model no-owner/no-such-model: no such folder; looking for it on the hub, for up to half a minute"
    assert [record.getMessage() for record in caplog.records] == [told]
