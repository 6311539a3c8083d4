"""Tiny random transformers models with a real tokenizer, made in a second: for tests of training and export."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DistilBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

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


def tiny_tokenizer(folder: Path, *, pairs: str = "<s> $A </s> </s> $B </s>") -> None:
    """Write a byte-level BPE tokenizer whose pair template is `pairs` (empty: none, as decoders have it)."""
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
    if pairs:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair=pairs, special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


DECODERS = ("qwen2", "qwen3", "llama")


def tiny_config(family: str) -> PretrainedConfig:
    """Return a configuration of two narrow layers of an architecture."""
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    if family == "distilbert":
        return DistilBertConfig(vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=64, **ids)
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 130,
    }
    own = {
        "albert": {"embedding_size": 16},
        "deberta": {"type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        "deberta-v2": {"type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        "electra": {"embedding_size": 16},
        "llama": {"num_key_value_heads": 2},
        "modernbert": {"local_attention": 16, "cls_token_id": 0, "sep_token_id": 2, "reference_compile": False},
        "qwen2": {"num_key_value_heads": 2},
        "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    }
    return CONFIG_MAPPING[family](**common, **own.get(family, {}), **ids)


def tiny_model(folder: Path, family: str = "bert", *, typed: bool = False, seed: int = 0) -> Path:
    """Write a random model and its tokenizer to `folder`; `typed` gives the candidate token type 1."""
    folder.mkdir(parents=True, exist_ok=True)
    template = "" if family in DECODERS else "<s> $A </s> $B:1 </s>:1" if typed else "<s> $A </s> </s> $B </s>"
    tiny_tokenizer(folder, pairs=template)
    torch.manual_seed(seed)
    AutoModel.from_config(tiny_config(family)).save_pretrained(folder)
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
    config = tiny_config(family)
    config.vocab_size, config.tie_word_embeddings = tokenizer.get_vocab_size(), tied
    config.max_position_embeddings, config.initializer_range = positions, 0.3  # so that scores depend on the texts
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
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
