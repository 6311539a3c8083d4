"""The bundle: one folder per task with all that scoring needs. It is written whole or not at all, and verifiable.

`model.onnx`, `tokenizer.json`, `golden.jsonl`, `manifest.json`; `prior.json` if the model reads a category prior,
`model.onnx.data` if its weights are too large for one ONNX file, and reports (relevance.model.reports). A cascade has
`golden.jsonl`, `manifest.json` and the bundles of its stages, `small` and `large`. A bundle of the kind `safetensors`
has the files of a transformers classifier in place of the graph, for vLLM. The manifest holds the sha256 of the others
and a digest of itself, so that any altered byte is found. Golden pairs carry the logits that the model gave at export;
a loader scores them again and compares. Knows no onnxruntime. See docs/bundle.md.
"""

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from relevance.errors import BundleError
from relevance.model.bundle_files import all_files, path_in, read_file, read_unchanged, verify_hashes
from relevance.model.card import TOKENIZER_FILE, ModelCard, explain
from relevance.model.cascade import STAGES, CascadeSummary
from relevance.model.inputs import PairInputs
from relevance.model.prior import PRIOR_FILE, CategoryPrior
from relevance.model.reports import MAX_REPORT_BYTES, REPORTS_FOLDER, report_files, report_names
from relevance.storage.files import sha256_of
from relevance.storage.strict import StrictModel
from relevance.tasks import Pair
from relevance.text.formatting import FORMAT_VERSION, OTHER_FORMAT
from relevance.text.tokenization import PairTokenizer

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
GOLDEN_FILE = "golden.jsonl"
CONFIG_FILE = "config.json"
WEIGHTS_SUFFIX = ".safetensors"
VERSION_DIGITS = 12

Precision = Literal["fp32", "fp16", "bf16", "int8"]
BundleKind = Literal["onnx", "safetensors"]
OTHER_KIND = {
    "onnx": "its weights are safetensors, for vLLM: `relevance score --endpoint` asks one that serves them; expected a "
    "bundle with an ONNX graph",
    "safetensors": "it has an ONNX graph; expected a bundle of `relevance export --kind safetensors`",
}


class Parity(StrictModel):
    """How far the exported model is from its checkpoint on the golden pairs."""

    pairs: int
    languages: tuple[str, ...]
    max_logit_difference: float
    max_score_difference: float
    f1_difference: float = Field(description="F1 of the bundle minus F1 of the checkpoint at the threshold")
    max_logit_difference_allowed: float
    f1_difference_allowed: float


class Int8(StrictModel):
    """What a bundle in int8 computes in fp32 all the same, and how far its scores are from those in fp32."""

    products: int = Field(description="products with weights, those of the head aside")
    in_fp32: tuple[str, ...] = Field(description="of these, the nodes that stay fp32")
    checked_pairs: int
    score_shift_p99: float


class Golden(StrictModel):
    """A pair, its label in the dev set, and the logit that the bundle's model gave it at export."""

    query: str
    candidate: str
    language: str
    label: int
    logit: float

    @property
    def pair(self) -> Pair:
        """The pair without its label and logit."""
        return Pair(self.query, self.candidate, self.language)


class Manifest(ModelCard):
    """The manifest of a bundle: the model's card, and the fields that export adds."""

    schema_version: int = SCHEMA_VERSION
    kind: BundleKind = Field("onnx", description="safetensors: a transformers classifier of one output, for vLLM")
    precision: Precision
    opset: int = Field(description="of the ONNX graph; 0: there is none")
    input_names: tuple[str, ...]
    output_name: str
    golden_tolerance: float = Field(gt=0, description="largest difference in logits that the golden self-test accepts")
    parity: Parity
    int8: Int8 | None = Field(None, description="absent: another precision, or a bundle of an earlier version")
    cascade: CascadeSummary | None = Field(
        None, description="absent: one model; else the other fields are the large model's, apart from what both gave"
    )
    tools: dict[str, str] = Field(default_factory=dict, description="versions of the packages that made the bundle")
    sha256: dict[str, str]
    digest: str = Field("", description="sha256 of this manifest without this field")

    @property
    def version(self) -> str:
        """The model version that answers carry: the first 12 digits of the digest."""
        return self.digest[:VERSION_DIGITS]

    @property
    def reports(self) -> tuple[str, ...]:
        """The names of the bundle's reports, as `data.html`."""
        return report_names(self.sha256)

    def content_digest(self) -> str:
        """Return the sha256 of everything in the manifest but `digest`, as sorted JSON."""
        return _digest_of(self.model_dump(mode="json"))

    def sealed(self) -> Self:
        """Return a copy that carries its own digest."""
        return self.model_copy(update={"digest": self.content_digest()})


class Bundle:
    """An opened bundle, its hashes verified."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        golden: Sequence[Golden],
        prior: CategoryPrior | None = None,
        stages: Sequence[Self] = (),
    ) -> None:
        self.folder, self.manifest, self.golden, self.prior = folder, manifest, golden, prior
        self.stages: Sequence[Self] = stages or (self,)  # of a cascade: small and large
        self._borrowed: PairTokenizer | None = None

    @classmethod
    def open(cls, folder: Path, kind: BundleKind = "onnx", *, weights: bool = True) -> Self:
        """Read and verify a bundle of a kind. Raises BundleError naming what is missing, altered, unknown or other.

        Without `weights`, files of safetensors are not read and may be absent: the model runs elsewhere.
        """
        manifest = read_manifest(folder)
        if manifest.kind != kind:
            raise BundleError(f"bundle {folder}: {OTHER_KIND[kind]}")
        names = hashed_files(folder, manifest)
        read = names if weights else [name for name in names if not name.endswith(WEIGHTS_SUFFIX)]
        verify_hashes(folder, read, manifest.sha256)
        lines = read_file(folder, GOLDEN_FILE).split(b"\n")
        try:
            golden = [Golden.model_validate_json(line) for line in lines if line]
        except ValidationError as error:
            raise BundleError(f"bundle {folder}: {GOLDEN_FILE}: {explain(error)}") from None
        if manifest.cascade is not None:
            return cls(folder, manifest, golden, stages=[cls._open_stage(folder, name, manifest) for name in STAGES])
        return cls(folder, manifest, golden, _read_prior(folder) if manifest.head.prior else None)

    @classmethod
    def _open_stage(cls, folder: Path, name: str, cascade: Manifest) -> Self:
        stage = cls.open(path_in(folder, name))
        found = stage.manifest
        if found.cascade is not None or found.task is not cascade.task:
            kind = "a cascade" if found.cascade is not None else "one model"
            raise BundleError(
                f"bundle {folder}: its stage {name} is {kind} of task {found.task.value}, expected one model of task "
                f"{cascade.task.value}"
            )
        return stage

    def inputs(self) -> PairInputs:
        """Return how the model reads pairs, as it was trained."""
        card = self.manifest
        return PairInputs(card.task, card.format, self.tokenizer(), card.head.overlap, self.prior)

    def tokenizer(self) -> PairTokenizer:
        """Return a tokeniser set up as the model was trained."""
        if self._borrowed is not None:
            return self._borrowed
        card = self.manifest
        return PairTokenizer.from_file(self.folder / TOKENIZER_FILE, card.max_length, card.pad_id, card.prompt)

    def borrow_tokenizer(self, owner: Manifest, tokenizer: PairTokenizer) -> None:
        """Share the tokeniser of another bundle if it is equal: to read a large one blocks all threads for long."""
        mine, others = [(m.sha256[TOKENIZER_FILE], m.max_length, m.pad_id, m.prompt) for m in (self.manifest, owner)]
        if mine == others:
            self._borrowed = tokenizer

    def report(self, name: str) -> bytes:
        """Return a report, one of the manifest's. Raises BundleError if it is gone or altered since, or too large."""
        file = f"{REPORTS_FOLDER}/{name}"
        return read_unchanged(self.folder, file, self.manifest.sha256[file], MAX_REPORT_BYTES)

    def check_golden(self, logits: Sequence[float], tolerance: float | None = None) -> float:
        """Return the largest difference between `logits` and the golden ones.

        Raises BundleError over `tolerance`, by default the manifest's `golden_tolerance`.
        """
        allowed = self.manifest.golden_tolerance if tolerance is None else tolerance
        if len(logits) != len(self.golden):
            raise BundleError(f"bundle {self.folder}: {len(logits)} logits for {len(self.golden)} golden pairs")
        worst = 0.0
        for row, (golden, logit) in enumerate(zip(self.golden, logits, strict=True), start=1):
            difference = abs(golden.logit - logit)
            if not difference <= allowed:  # also catches NaN
                raise BundleError(
                    f"bundle {self.folder}: golden pair {row} scored {logit:.4f}, expected {golden.logit:.4f} "
                    f"within {allowed}; the model or its runtime differs from the exported one"
                )
            worst = max(worst, difference)
        return worst


def write_bundle_files(folder: Path, manifest: Manifest, golden: Sequence[Golden]) -> Manifest:
    """Add `golden.jsonl` and a sealed `manifest.json` to a folder that holds the other files; return the manifest.

    The caller publishes the folder as a whole (`relevance.storage.files.whole_folder`).
    """
    text = "".join(pair.model_dump_json() + "\n" for pair in golden)
    (folder / GOLDEN_FILE).write_text(text, encoding="utf-8")
    hashes = {name: sha256_of(folder / name) for name in hashed_files(folder, manifest)}
    sealed = manifest.model_copy(update={"sha256": hashes}).sealed()
    (folder / MANIFEST_FILE).write_text(sealed.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return sealed


def stated_version(folder: Path) -> str | None:
    """Return the version in a bundle's manifest, unchecked; None if it cannot be read."""
    try:
        raw = json.loads(read_file(folder, MANIFEST_FILE)) if path_in(folder, MANIFEST_FILE).is_file() else None
    except (BundleError, ValueError, RecursionError):
        return None
    digest = raw.get("digest") if isinstance(raw, dict) else None
    return digest[:VERSION_DIGITS] if isinstance(digest, str) else None


def hashed_files(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the files whose sha256 the manifest holds; those of a cascade's stages hold their own.

    The file of weights and reports are among them if the manifest or the folder has them. Of safetensors, all files
    are: vLLM reads every one that is there.
    """
    if manifest.kind == "safetensors":
        needed = {CONFIG_FILE, TOKENIZER_FILE, GOLDEN_FILE}
        return tuple(sorted((needed | manifest.sha256.keys() | set(all_files(folder))) - {MANIFEST_FILE}))
    listed = (name for name in manifest.sha256 if name.startswith(f"{REPORTS_FOLDER}/"))
    reports = sorted({*listed, *report_files(folder)})
    if manifest.cascade is not None:
        return (GOLDEN_FILE, *(f"{name}/{MANIFEST_FILE}" for name in STAGES), *reports)
    prior = (PRIOR_FILE,) if manifest.head.prior else ()
    weights = (DATA_FILE,) if DATA_FILE in manifest.sha256 or (folder / DATA_FILE).exists() else ()
    return (MODEL_FILE, *weights, TOKENIZER_FILE, GOLDEN_FILE, *prior, *reports)


def _read_prior(folder: Path) -> CategoryPrior:
    try:
        return CategoryPrior.model_validate_json(read_file(folder, PRIOR_FILE))
    except ValidationError as error:
        raise BundleError(f"bundle {folder}: {PRIOR_FILE}: {explain(error)}") from None


def _digest_of(content: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest's JSON object without `digest`."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Return a bundle's manifest, its own digest checked and no other file. Raises BundleError."""
    try:
        return _read_manifest(folder)
    except RecursionError:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE} is nested too deeply; it is damaged") from None


def _read_manifest(folder: Path) -> Manifest:
    if not path_in(folder, MANIFEST_FILE).is_file():
        raise BundleError(f"bundle {folder}: no {MANIFEST_FILE}; expected a folder written by `relevance export`")
    try:
        raw = json.loads(read_file(folder, MANIFEST_FILE))
        json.dumps(raw, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except ValueError as error:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE} is no JSON ({error}); the bundle is damaged") from None
    for field, known in (("schema_version", SCHEMA_VERSION), ("format_version", FORMAT_VERSION)):
        if isinstance(raw, dict) and raw.get(field) != known:
            found = reprlib.repr(raw.get(field))
            hint = OTHER_FORMAT if field == "format_version" else "export it again"
            raise BundleError(f"bundle {folder}: {field} {found} is unknown; expected {known}; {hint}")
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE}: {explain(error)}") from None
    if manifest.digest != _digest_of(raw):  # of the raw JSON: an older manifest lacks fields that have a default
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE} does not match its own digest; it is damaged or altered")
    return manifest
