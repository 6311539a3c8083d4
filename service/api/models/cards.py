"""The card of each loaded model of a task: what it is, how good it was and on which rows, and how it labels."""

from typing import Self

from pydantic import BaseModel, Field

from relevance.evaluation.metrics import Report
from relevance.evaluation.soundness import Advice, CosineGain
from relevance.model.bundle import Bundle
from relevance.model.card import Calibration, Histogram, ThresholdSource
from relevance.model.cascade import STAGES, CascadeSummary
from relevance.tasks import Task
from service.lifecycle.challenger import Mode
from service.lifecycle.rollout import Rollout
from service.scoring.model_metrics import Role
from service.scoring.served_model import ServedModel


class ServedCard(BaseModel):
    """A loaded model: its role, and what its manifest says of it (docs/bundle.md)."""

    role: Role
    mode: Mode | None = Field(description="of a challenger: `shadow` answers nobody, `canary` a share of the requests")
    share: float | None = Field(description="of a challenger: the share of the requests that it sees, 0 to 1")
    name: str
    version: str
    base_model: str
    license: str
    precision: str
    device: str
    runtime: str
    max_length: int
    created: str
    source_commit: str
    seen_languages: tuple[str, ...]
    fine_tuned: bool
    threshold: float
    language_thresholds: dict[str, float]
    threshold_sources: dict[str, ThresholdSource]
    calibration: Calibration
    metrics: Report | None
    metrics_on: str
    findings: tuple[str, ...]
    cascade: CascadeSummary | None = Field(description="null: one model; else its stages, small and large")
    cosine_auc: float | None
    cosine_gains: dict[str, CosineGain]
    rerank_advice: dict[str, Advice]
    score_histogram: tuple[int, ...] = Field(description="dev scores in each twentieth of [0, 1]")
    language_histograms: dict[str, Histogram]
    dev_rows: dict[str, int]
    reports: tuple[str, ...] = Field(description="names of the reports in the bundle, which the page opens")
    stage_reports: dict[str, tuple[str, ...]] = Field(
        description="of a cascade: names of the reports of `small` and `large`, which have versions of their own"
    )

    @classmethod
    def of(cls, model: ServedModel, role: Role, rollout: Rollout) -> Self:
        """Describe a model in its role."""
        trial = rollout.challenger if role is Role.CHALLENGER else None
        manifest = model.manifest
        own = {"role", "mode", "share", "version", "device", "runtime", "rerank_advice", "reports", "stage_reports"}
        return cls(
            **{name: getattr(manifest, name) for name in cls.model_fields if name not in own},
            role=role,
            mode=trial.mode if trial else None,
            share=trial.share if trial else None,
            version=manifest.version,
            device=model.device,
            runtime=model.runtime,
            rerank_advice=manifest.rerank_advice,
            reports=manifest.reports,
            stage_reports=_stage_reports(model.bundle),
        )


def _stage_reports(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """Return the names of the reports of each stage of a cascade; nothing for one model."""
    stages = zip(STAGES, bundle.stages, strict=True) if bundle.manifest.cascade else ()
    return {name: stage.manifest.reports for name, stage in stages}


class ModelCards(BaseModel):
    """The loaded models of a task: the active one first, then the challenger and the previous one."""

    task: Task
    models: list[ServedCard]

    @classmethod
    def of(cls, task: Task, rollout: Rollout) -> Self:
        """Describe the models of a task."""
        on_trial = rollout.challenger.model if rollout.challenger else None
        roles = {Role.ACTIVE: rollout.active, Role.CHALLENGER: on_trial, Role.PREVIOUS: rollout.previous}
        return cls(task=task, models=[ServedCard.of(model, role, rollout) for role, model in roles.items() if model])
