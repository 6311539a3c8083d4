"""Makes a real bundle that is tiny: a byte-level tokenizer and a seeded ONNX graph, run by the real onnxruntime.

The graph is an embedding, `depth` square layers, the mean over the tokens and a linear layer. Depth makes it slow.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from relevance.evaluation.intervals import Interval
from relevance.evaluation.soundness import CosineGain
from relevance.model.bundle import MODEL_FILE, Bundle, Golden, Manifest, Parity, write_bundle_files
from relevance.model.card import TOKENIZER_FILE
from relevance.model.heads import HeadKind, HeadSpec
from relevance.model.inputs import PairInputs
from relevance.model.prior import CategoryPrior
from relevance.model.reports import REPORTS_FOLDER
from relevance.storage.files import whole_folder
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from relevance.text.tokenization import PairTokenizer

MAX_LENGTH = 96
PAD_ID = 1
INPUTS = ("input_ids", "attention_mask")
GOLDEN_PAIRS = (
    Pair("wireless earphones", "Consumer Electronics,Earphones & Headphones", "en"),
    Pair("ワイヤレスイヤホン", "Home & Garden,Kitchen", "ja"),
    Pair("zapatos", "Sports,Running Shoes", "es"),
    Pair("điện thoại", "Phones", "vi"),
)


def tiny_bundle(
    folder: Path,
    task: Task = Task.QC,
    seed: int = 0,
    *,
    hidden: int = 16,
    depth: int = 0,
    without: str = "",
    prior: CategoryPrior | None = None,
) -> Manifest:
    """Write a whole, valid bundle into `folder` and return its manifest; equal arguments give equal files.

    Letters in `without` are unknown to its tokenizer. With `prior`, the leaf's feature is added to the logit.
    """
    with whole_folder(folder) as making:
        tiny_tokenizer(without).save(str(making / TOKENIZER_FILE))
        onnx.save(tiny_model(seed, hidden, depth, prior is not None), str(making / MODEL_FILE))
        tokenizer = PairTokenizer.from_file(making / TOKENIZER_FILE, MAX_LENGTH, PAD_ID)
        manifest = _manifest(task, seed, hidden, prior)
        if prior is not None:
            prior.save(making)
        session = onnxruntime.InferenceSession(str(making / MODEL_FILE), providers=["CPUExecutionProvider"])
        arrays = tokenizer.collate(PairInputs(task, manifest.format, tokenizer, prior=prior).encode(GOLDEN_PAIRS))
        (logits,) = session.run(["logits"], {name: arrays[name] for name in manifest.input_names})
        golden = [
            Golden(query=p.query, candidate=p.candidate, language=p.language, label=int(z > 0), logit=float(z))
            for p, z in zip(GOLDEN_PAIRS, logits, strict=True)
        ]
        return write_bundle_files(making, manifest, golden)


def tiny_tokenizer(without: str = "") -> Tokenizer:
    """Return a tokenizer of one token a byte, those `without` left out, with a pair template as XLM-R's."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [*specials, *sorted({*pre_tokenizers.ByteLevel.alphabet()} - {*without})]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(specials)
    return tokenizer


def tiny_model(seed: int, hidden: int, depth: int, with_prior: bool = False) -> onnx.ModelProto:
    """Return the graph: `input_ids` and `attention_mask`, both int64 [B, T], to `logits` float32 [B].

    `with_prior`: it adds the first column of `features`, float32 [B, 3].
    """
    rng = np.random.default_rng(seed)
    weights = {"table": rng.normal(size=(260, hidden)), "out": rng.normal(size=hidden) * 4, "bias": np.float64(0.1)}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["h0"])]
    for layer in range(depth):
        weights[f"w{layer}"] = rng.normal(size=(hidden, hidden)) / hidden**0.5
        nodes += [
            helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Tanh", [f"m{layer}"], [f"h{layer + 1}"]),
        ]
    nodes += [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", [f"h{depth}", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "out"], ["linear"]),
        helper.make_node("Add", ["linear", "bias"], ["text" if with_prior else "logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in INPUTS]
    if with_prior:
        weights["leaf"] = np.array([1.0, 0.0, 0.0])
        nodes += [
            helper.make_node("MatMul", ["features", "leaf"], ["p"]),
            helper.make_node("Add", ["text", "p"], ["logits"]),
        ]
        inputs.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3]))
    constants = [numpy_helper.from_array(np.asarray(w, dtype=np.float32), name) for name, w in weights.items()]
    constants += [numpy_helper.from_array(np.array([a], dtype=np.int64), n) for n, a in (("last", 2), ("middle", 1))]
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch"])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _manifest(task: Task, seed: int, hidden: int, prior: CategoryPrior | None) -> Manifest:
    parity = Parity(
        pairs=len(GOLDEN_PAIRS),
        languages=tuple(sorted({pair.language for pair in GOLDEN_PAIRS})),
        max_logit_difference=0.0,
        max_score_difference=0.0,
        f1_difference=0.0,
        max_logit_difference_allowed=0.01,
        f1_difference_allowed=0.005,
    )
    return Manifest(
        name=f"tiny-{task.value}-{seed}",
        task=task,
        format=PairFormat(),
        max_length=MAX_LENGTH,
        pad_id=PAD_ID,
        head=HeadSpec(kind=HeadKind.MEAN, hidden_size=hidden, prior=prior is not None),
        threshold=0.5,
        language_thresholds={"ja": 0.9},
        cosine_gains={
            "en": CosineGain(rows=90, auc=0.8, cosine_auc=0.7, gain=Interval(value=0.1, low=0.05, high=0.15)),
            "ja": CosineGain(rows=90, auc=0.6, cosine_auc=0.7, gain=Interval(value=-0.1, low=-0.3, high=0.1)),
        },
        seen_languages=("en", "es"),
        base_model="tiny",
        created="2025-01-01T00:00:00Z",
        precision="fp32",
        opset=17,
        input_names=(*INPUTS, *(["features"] if prior else [])),
        output_name="logits",
        golden_tolerance=1e-3,
        parity=parity,
        sha256={},
    )


def add_reports(folder: Path, reports: Mapping[str, str]) -> Manifest:
    """Put reports (name to HTML) into a bundle, as an export of a checkpoint with them does; return its manifest."""
    bundle = Bundle.open(folder)
    for name, text in reports.items():
        (folder / REPORTS_FOLDER).mkdir(exist_ok=True)
        (folder / REPORTS_FOLDER / name).write_text(text, encoding="utf-8")
    return write_bundle_files(folder, bundle.manifest, bundle.golden)
