"""The bundle: a folder a task that holds all that scoring needs, made whole or not at all, and verifiable.

`model.onnx`, `tokenizer.json`, `golden.jsonl` and `manifest.json`. The manifest holds the sha256 of the other three and
a digest of itself, so that one altered byte anywhere is found. Golden pairs carry the logits that the bundle's own
model gave when it was made: whoever loads it scores them again and compares. See docs/bundle.md.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relevance.card import TOKENIZER_FILE, ModelCard, explain
from relevance.errors import BundleError
from relevance.files import sha256_of
from relevance.formatting import FORMAT_VERSION
from relevance.tasks import Pair
from relevance.tokenization import PairTokenizer

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.jsonl"

Precision = Literal["fp32", "fp16", "int8"]


class Parity(BaseModel):
    """How far the exported model is from its checkpoint on the golden pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: int
    languages: tuple[str, ...]
    max_logit_difference: float
    max_score_difference: float
    f1_difference: float = Field(description="F1 of the bundle minus F1 of the checkpoint at the threshold")
    max_logit_difference_allowed: float
    f1_difference_allowed: float


class Golden(BaseModel):
    """A pair, its label in the dev set, and the logit that the bundle's model gave it at export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    """What a bundle is: the model's card, and what export added."""

    schema_version: int = SCHEMA_VERSION
    precision: Precision
    opset: int
    input_names: tuple[str, ...]
    output_name: str
    golden_tolerance: float = Field(gt=0, description="largest difference in logits that the golden self-test accepts")
    parity: Parity
    tools: dict[str, str] = Field(default_factory=dict, description="versions of the packages that made the bundle")
    sha256: dict[str, str]
    digest: str = Field("", description="sha256 of this manifest without this field")

    @property
    def version(self) -> str:
        """The model version that answers carry: the first 12 digits of the digest."""
        return self.digest[:12]

    def content_digest(self) -> str:
        """Return the sha256 of everything in the manifest but `digest`, as sorted JSON."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def sealed(self) -> Self:
        """Return a copy that carries its own digest."""
        return self.model_copy(update={"digest": self.content_digest()})


class Bundle:
    """An opened bundle, its hashes verified."""

    def __init__(self, folder: Path, manifest: Manifest, golden: Sequence[Golden]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.golden = golden

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read and verify a bundle. Raises BundleError naming what is missing, altered or unknown."""
        manifest = _read_manifest(folder)
        verify_hashes(folder, manifest)
        try:
            lines = (folder / GOLDEN_FILE).read_text(encoding="utf-8").split("\n")
            golden = [Golden.model_validate_json(line) for line in lines if line]
        except ValidationError as error:
            raise BundleError(f"bundle {folder}: {GOLDEN_FILE}: {explain(error)}") from None
        return cls(folder, manifest, golden)

    def tokenizer(self) -> PairTokenizer:
        """Return a tokeniser set up as the model was trained."""
        return PairTokenizer.from_file(self.folder / TOKENIZER_FILE, self.manifest.max_length, self.manifest.pad_id)

    def check_golden(self, logits: Sequence[float]) -> float:
        """Return the largest difference between `logits` and the golden ones. Raises BundleError past the tolerance."""
        if len(logits) != len(self.golden):
            raise BundleError(f"bundle {self.folder}: {len(logits)} logits for {len(self.golden)} golden pairs")
        worst = 0.0
        for row, (golden, logit) in enumerate(zip(self.golden, logits, strict=True), start=1):
            difference = abs(golden.logit - logit)
            if not difference <= self.manifest.golden_tolerance:  # also catches NaN
                raise BundleError(
                    f"bundle {self.folder}: golden pair {row} scored {logit:.4f}, expected {golden.logit:.4f} "
                    f"within {self.manifest.golden_tolerance}; the model or its runtime differs from the exported one"
                )
            worst = max(worst, difference)
        return worst


def write_bundle_files(folder: Path, manifest: Manifest, golden: Sequence[Golden]) -> Manifest:
    """Add `golden.jsonl` and a sealed `manifest.json` to a folder that holds model and tokenizer; return the manifest.

    The caller makes the folder appear whole (`relevance.files.whole_folder`).
    """
    text = "".join(pair.model_dump_json() + "\n" for pair in golden)
    (folder / GOLDEN_FILE).write_text(text, encoding="utf-8")
    hashes = {name: sha256_of(folder / name) for name in (MODEL_FILE, TOKENIZER_FILE, GOLDEN_FILE)}
    sealed = manifest.model_copy(update={"sha256": hashes}).sealed()
    (folder / MANIFEST_FILE).write_text(sealed.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return sealed


def verify_hashes(folder: Path, manifest: Manifest) -> None:
    """Raise BundleError naming every file that is missing or whose sha256 differs from the manifest's."""
    faults = []
    for name, expected in _required(manifest.sha256).items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif (found := sha256_of(path)) != expected:
            faults.append(f"{name} has sha256 {found[:12]}..., expected {expected[:12]}...")
    if faults:
        raise BundleError(f"bundle {folder}: {'; '.join(faults)}; the bundle is damaged or altered, export it again")


def _required(hashes: Mapping[str, str]) -> dict[str, str]:
    return {name: hashes.get(name, "(none in the manifest)") for name in (MODEL_FILE, TOKENIZER_FILE, GOLDEN_FILE)}


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise BundleError(f"bundle {folder}: no {MANIFEST_FILE}; expected a folder written by `relevance export`")
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as error:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE} is no JSON ({error}); the bundle is damaged") from None
    for field, known in (("schema_version", SCHEMA_VERSION), ("format_version", FORMAT_VERSION)):
        if isinstance(raw, dict) and raw.get(field) != known:
            raise BundleError(f"bundle {folder}: {field} {raw.get(field)!r} is unknown; expected {known}")
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE}: {explain(error)}") from None
    if manifest.digest != manifest.content_digest():
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE} does not match its own digest; it is damaged or altered")
    return manifest
