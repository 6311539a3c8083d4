"""The list of the models that answer, in brief."""

from typing import Self

from pydantic import BaseModel, Field

from relevance.evaluation.metrics import Slice
from relevance.evaluation.soundness import Advice
from relevance.tasks import Task
from service.api.schemas import ModelVersion
from service.scoring.served_model import ServedModel


class ModelQuality(BaseModel):
    """How good the model was on its dev set."""

    rows: int
    f1: float | None
    always_yes_f1: float | None = Field(description="F1 of a scorer that says yes to everything, on the same rows")
    auc: float | None

    @classmethod
    def of(cls, dev: Slice) -> Self:
        """Return the quality on the rows of a slice."""
        return cls(rows=dev.rows, f1=dev.f1.value, always_yes_f1=dev.always_yes_f1.value, auc=dev.auc.value)


class ModelInfo(ModelVersion):
    """A served model."""

    task: Task
    base_model: str
    license: str
    precision: str
    device: str = Field(description="where it runs: `cpu` or `cuda`")
    runtime: str = Field(description="what computes it: `onnxruntime`, or `openvino-bf16` (docs/serving.md)")
    max_length: int = Field(description="tokens of a pair, special tokens included; longer pairs are cut")
    threshold: float
    language_thresholds: dict[str, float]
    fine_tuned: bool = Field(description="false: the encoder as it is; only the start of its head saw training rows")
    languages: list[str] = Field(description="languages seen in fine-tuning; others work through the base model")
    quality: ModelQuality | None
    rerank_advice: dict[str, Advice] = Field(
        description="by language with enough dev rows: `rerank` if the model beats the cosine of its base model there, "
        "`keep_order` if it does not, `unproven` if the difference may be chance"
    )
    created: str

    @classmethod
    def of(cls, model: ServedModel) -> Self:
        """Describe a served model."""
        manifest = model.manifest
        return cls(
            **manifest.model_dump(include={"name", "task", "base_model", "license", "precision", "max_length"}),
            **manifest.model_dump(include={"threshold", "language_thresholds", "fine_tuned", "created"}),
            version=manifest.version,
            device=model.device,
            runtime=model.runtime,
            languages=list(manifest.seen_languages),
            quality=ModelQuality.of(manifest.metrics.all) if manifest.metrics else None,
            rerank_advice=manifest.rerank_advice,
        )


class ModelList(BaseModel):
    """All served models."""

    models: list[ModelInfo]
