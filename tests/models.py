"""Tiny random transformers models with a real tokenizer, made in a second: for tests of training and export."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DistilBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from relevance.tasks import LabeledPair, Pair

WORDS = [
    "red shoes",
    "zapatos rojos",
    "青い 靴",
    "حذاء أحمر",
    "czerwone buty",
    "shoes > sneakers",
    "home & garden",
    "cups",
]
VOCABULARY = 300


SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
# Words as GPT-4 splits them (tiktoken's cl100k_base), which Qwen and Llama 3 use.
TIKTOKEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
KINDS = ("wordpiece", "unigram", "tiktoken", "fallback")


def real_tokenizer(kind: str, texts: Sequence[str] = WORDS, size: int = VOCABULARY) -> Tokenizer:
    """Return a tokenizer of a kind that real models have, trained on texts; SPECIAL have the ids 0 to 3.

    `wordpiece`: BERT; `unigram`: XLM-R, DeBERTa-v3; `tiktoken`: Qwen, Llama 3; `fallback` (BPE with bytes for unknown
    characters): Gemma, Llama 2, mmBERT.
    """
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    elif kind == "tiktoken":
        tokenizer = Tokenizer(models.BPE(ignore_merges=True))
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(TIKTOKEN_SPLIT), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        every = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=2 * size, special_tokens=[*SPECIAL, *every], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tiny_tokenizer(folder: Path, *, pairs: str = "<s> $A </s> </s> $B </s>", kind: str = "") -> None:
    """Write a tokenizer whose pair template is `pairs` (empty: none, as decoders have it), a `kind` of KINDS.

    Without a kind it is a byte-level BPE.
    """
    tokenizer = real_tokenizer(kind) if kind else _byte_level()
    if pairs:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair=pairs, special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return tokenizer


DECODERS = ("qwen2", "qwen3", "llama", "gemma3", "gemma3_text")
# vLLM's documentation has a classifier of them, or converts them to one, and they need no token types.
CLASSIFIERS = ("gemma3_text", "llama", "modernbert", "qwen2", "qwen3", "roberta", "xlm-roberta")


def tiny_config(family: str, vocabulary: int = VOCABULARY) -> PretrainedConfig:
    """Return a configuration of two narrow layers of an architecture."""
    if family == "gemma3":  # text and images: the text model lies within
        images = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
        text = tiny_config("gemma3_text", vocabulary).to_dict()
        return CONFIG_MAPPING[family](text_config=text, vision_config=images | {"image_size": 28, "patch_size": 14})
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    if family == "distilbert":
        return DistilBertConfig(vocab_size=vocabulary, dim=32, n_layers=2, n_heads=4, hidden_dim=64, **ids)
    common = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 130,
    }
    own = {
        "albert": {"embedding_size": 16},
        "deberta": {"type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        "deberta-v2": {  # as DeBERTa-v3, whose buckets are fewer than its positions
            "type_vocab_size": 0,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "max_relative_positions": -1,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
        },
        "electra": {"embedding_size": 16},
        "gemma3_text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8, "sliding_window_pattern": 2},
        "llama": {"num_key_value_heads": 2},
        "modernbert": {"local_attention": 16, "cls_token_id": 0, "sep_token_id": 2, "reference_compile": False},
        "qwen2": {"num_key_value_heads": 2},
        "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    }
    return CONFIG_MAPPING[family](**common, **own.get(family, {}), **ids)


def tiny_model(folder: Path, family: str = "bert", *, typed: bool = False, seed: int = 0, kind: str = "") -> Path:
    """Write a random model and its tokenizer, a `kind` of KINDS; `typed` gives the candidate token type 1."""
    folder.mkdir(parents=True, exist_ok=True)
    template = "" if family in DECODERS else "<s> $A </s> $B:1 </s>:1" if typed else "<s> $A </s> </s> $B </s>"
    tiny_tokenizer(folder, pairs=template, kind=kind)
    torch.manual_seed(seed)
    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    AutoModel.from_config(tiny_config(family, max(size, VOCABULARY))).save_pretrained(folder)
    return folder


def tiny_reranker(folder: Path, family: str = "bert", labels: int = 1, **config: Any) -> Path:
    """Write a random classifier of pairs and its tokenizer, as the original library saves them.

    Its weights are large, so that logits differ widely between pairs.
    """
    tiny_model(folder, family, typed=family == "bert")
    settings = tiny_config(family)
    settings.update({"num_labels": labels, "initializer_range": 0.3, **config})
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(settings).save_pretrained(folder)
    return folder


def tiny_language_model(folder: Path, family: str = "qwen3", *, tied: bool = False, positions: int = 130) -> Path:
    """Write a random decoder with its language-model head, and a tokenizer with chat marks and the words yes and no."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    marks = ["<s>", "<pad>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY + 60, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*WORDS, *["Answer: yes no\nyes\nno"] * 9], trainer)
    if family == "llama":  # begins every text with <s>, as Llama's own do
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = tiny_config(family, tokenizer.get_vocab_size())
    config.tie_word_embeddings = tied
    wide = {"max_position_embeddings": positions, "initializer_range": 0.3}  # so that scores depend on the texts
    for each in (config, config.get_text_config()):
        each.update(wide)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
QWEN3_RERANKER = (  # the prompt that its makers document
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    f"<Instruct>: {INSTRUCTION}\n<Query>: {{query}}\n<Document>: {{candidate}}<|im_end|>\n<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n"
)


def tiny_asked_reranker(folder: Path, family: str = "qwen3", *, classifier: bool = False) -> Path:
    """Write a random decoder as Qwen3-Reranker is one: it answers yes or no, or was converted to a classifier.

    Its byte-level BPE splits words as Qwen's does, and has tokens that hold a sign and the line break behind it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = [*WORDS, *[f"{QWEN3_RERANKER} shoes?\n cups!\n yes no\nyes\nno"] * 9]
    tokenizer = real_tokenizer("tiktoken", texts, 2 * VOCABULARY)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = tiny_config(family, tokenizer.get_vocab_size())
    config.update({"max_position_embeddings": 512, "initializer_range": 0.3, "num_labels": 1})
    kind = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    kind.from_config(config).save_pretrained(folder)
    return folder


def random_model(folder: Path, family: str, **sizes: int) -> Path:
    """Write a random model of some sizes and its tokenizer; a decoder has its language-model head."""
    if family in DECODERS:
        tiny_language_model(folder, family, positions=512)
        config, kind = AutoConfig.from_pretrained(folder), AutoModelForCausalLM
    else:
        tiny_model(folder, family)
        config, kind = AutoConfig.from_pretrained(folder), AutoModel
    config.update({"max_position_embeddings": 512, **sizes, "layer_types": None})
    kind.from_config(type(config)(**config.to_dict())).save_pretrained(folder)
    return folder


def unigram_model(folder: Path, words: Sequence[str]) -> Path:
    """Write a random model whose Unigram tokenizer has a token for each word, and ASCII characters."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in words), *map(chr, range(33, 127))]
    core = Tokenizer(models.Unigram([(piece, -float(place)) for place, piece in enumerate(pieces)], 3, False))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    AutoModel.from_config(tiny_config("bert")).save_pretrained(folder)
    return folder


def shoe_rows(start: int = 0, count: int = 24) -> list[LabeledPair]:
    """Return rows whose query says their label: red shoes fit, blue ones do not."""
    made = []
    for i in range(start, start + count):
        pair = Pair(f"{'red' if i % 2 else 'blue'} shoes {i}", "goods,red shoes", "en" if i % 3 else "de")
        made.append(LabeledPair(pair, i % 2, str(i)))
    return made
