"""The ctranslate2 backend with small random models of all four families, built and converted here."""

import importlib.util
import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5TokenizerFast,
)

from relevance.errors import ConfigError
from training.translation.backends.choice import open_translators
from training.translation.backends.ctranslate2 import CTranslate2Options, CTranslate2Translator, convert_model

if importlib.util.find_spec("ctranslate2") is None or importlib.util.find_spec("sentencepiece") is None:
    pytest.skip("needs ctranslate2 and sentencepiece", allow_module_level=True)
import sentencepiece

TEXTS = ["red shoes", "cup", "wireless ear phones 123", "zapatos rojos", "tasse"]
NARROW = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
}
FAMILIES = {
    "m2m100": ("en", "de", "xx"),
    "nllb": ("en", "de", "xx"),
    "madlad": ("unk", "it", "pl"),
    "marian": ("en", "de", "it"),
    "marian-group": ("fr", "it", "pl"),
}


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A sentencepiece model of a few words."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "words.txt").write_text("\n".join(TEXTS * 30))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "words.txt"),
        model_prefix=str(folder / "sp"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder / "sp.model"


def vocabulary(pieces, path, first):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    names = [processor.id_to_piece(n) for n in range(processor.get_piece_size())]
    tokens = list(dict.fromkeys([*first, *names, "<pad>"]))
    path.write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    return tokens


def m2m100(folder, pieces):
    vocabulary(pieces, folder / "vocab.json", ["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(pieces))
    size = len(tokenizer.get_vocab()) + tokenizer.num_madeup_words
    return tokenizer, M2M100ForConditionalGeneration(M2M100Config(vocab_size=size, **NARROW))


def nllb(folder, pieces):
    tokenizer = NllbTokenizer(str(pieces))
    return tokenizer, M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), **NARROW))


def madlad(folder, pieces):
    tokens = vocabulary(pieces, folder / "vocab.json", ["<unk>", "<s>", "</s>", "<2de>", "<2it>"])
    core = Tokenizer(models.Unigram([(token, -float(n)) for n, token in enumerate(tokens)], 0))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer = T5TokenizerFast(
        tokenizer_object=core,
        extra_ids=0,
        additional_special_tokens=["<2de>", "<2it>"],
        clean_up_tokenization_spaces=False,
    )
    ids = {"decoder_start_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    config = T5Config(vocab_size=len(tokenizer), tie_word_embeddings=False, **shape, **ids)
    return tokenizer, T5ForConditionalGeneration(config)


def marian(folder, pieces, tokens=(), source="en", target="de"):
    names = vocabulary(pieces, folder / "vocab.json", ["</s>", "<unk>", *tokens])
    tokenizer = MarianTokenizer(
        str(pieces), str(pieces), str(folder / "vocab.json"), source_lang=source, target_lang=target
    )
    ids = dict.fromkeys(("pad_token_id", "decoder_start_token_id"), names.index("<pad>"))
    size = {"vocab_size": len(names), "decoder_vocab_size": len(names)}
    config = MarianConfig(**size, **NARROW, **ids, eos_token_id=0, forced_eos_token_id=0)
    return tokenizer, MarianMTModel(config)


def marian_group(folder, pieces):
    return marian(folder, pieces, (">>ita<<", ">>spa<<"), "ROMANCE", "mul")


@pytest.fixture(scope="module")
def converted(tmp_path_factory, pieces):
    """The folder of a converted random model, made once a family."""
    made = {}

    def folder_of(family):
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            torch.manual_seed(6)  # one by which all of them write words, not special tokens only
            tokenizer, model = globals()[family.replace("-", "_")](folder, pieces)
            for part in (tokenizer, model):
                part.save_pretrained(folder)
            made[family] = folder / "converted"
            convert_model(str(folder), made[family])
        return made[family]

    return folder_of


def opened(folder, **fields):
    return CTranslate2Translator(CTranslate2Options(folder=folder, device="cpu", threads=1, longest_tokens=8, **fields))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_translates_and_knows_its_languages(converted, family):
    source, target, unknown = FAMILIES[family]
    translator = opened(converted(family))
    found = translator.translate(TEXTS, source, target)
    assert len(found) == len(TEXTS)
    assert any(found)
    assert not any(mark in text for text in found if text for mark in ("__", "_Latn", "<2", ">>", "</s>", "\u2581"))
    assert translator.supports(source, target)
    assert not translator.supports(source, unknown)
    with pytest.raises(ConfigError, match=f"cannot translate '{source}' into '{unknown}'"):
        translator.translate(TEXTS, source, unknown)


@pytest.mark.parametrize(
    ("family", "source", "target", "first", "prefix"),
    [
        ("m2m100", "en", "de", "__en__", ["__de__"]),
        ("m2m100", "fr", "de", "__fr__", ["__de__"]),
        ("nllb", "en", "de", "eng_Latn", ["deu_Latn"]),
        ("nllb", "ja", "ar", "jpn_Jpan", ["arb_Arab"]),
        ("madlad", "en", "de", "<2de>", []),
        ("marian-group", "fr", "it", ">>ita<<", []),
        ("marian-group", "fr", "es", ">>spa<<", []),
    ],
)
def test_language_tokens_are_where_the_family_wants_them(converted, family, source, target, first, prefix):
    translator = opened(converted(family))
    code = translator._family.code(target)
    assert translator._tokens("cup", source, code)[0] == first
    assert translator._tokens("cup", source, code)[-1] == "</s>"
    assert translator._family.target_prefix(code) == prefix


def test_a_model_of_one_pair_takes_texts_as_they_are(converted):
    translator = opened(converted("marian"))
    assert translator._tokens("cup", "en", "de")[0].startswith("\u2581")
    assert not translator.supports("fr", "de")


@pytest.mark.parametrize("family", ["m2m100", "marian"])
def test_a_translation_does_not_depend_on_its_batch(converted, family):
    source, target, _ = FAMILIES[family]
    together = opened(converted(family), batch_size=3).translate(TEXTS, source, target)
    alone = [opened(converted(family)).translate([text], source, target)[0] for text in TEXTS]
    assert together == alone


def test_the_key_names_the_weights_and_not_the_folder(converted, tmp_path):
    folder = converted("m2m100")
    (tmp_path / "moved").symlink_to(folder)
    assert opened(folder).key == opened(tmp_path / "moved").key
    assert opened(folder).key != opened(folder, beam_size=1).key
    assert opened(folder).key != opened(converted("marian")).key


def test_a_folder_that_is_no_converted_model_is_named(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"no config\.json"):
        opened(tmp_path)
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        opened(tmp_path)
    with pytest.raises(ConfigError, match="cannot be converted"):
        convert_model(str(tmp_path / "none"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_backend_is_opened_by_name_with_its_settings(converted):
    settings = {"ctranslate2": {"device": "cpu", "beam_size": 1, "threads": 1}}
    with open_translators([f"ctranslate2:{converted('marian')}"], settings) as (translator,):
        assert "beam 1" in translator.key
    with pytest.raises(ConfigError, match="beams"), open_translators(["ctranslate2:x"], {"ctranslate2": {"beams": 1}}):
        pass
