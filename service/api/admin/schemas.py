"""The requests and answers of the admin interface, as pydantic models."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.lifecycle.challenger import Challenger, Mode
from service.lifecycle.rollout import Refusal, Rollout
from service.scoring.served_model import ServedModel

LONGEST_PATH = 4096


class Change(BaseModel):
    """A bundle, and what to do with it."""

    model_config = ConfigDict(extra="forbid")

    bundle: str = Field(min_length=1, max_length=LONGEST_PATH, description="its folder on the machine of the service")
    mode: Literal["switch", "shadow", "canary"] = Field(
        description="serve it; let it score requests that the active model answers; let it answer requests"
    )
    share: float | None = Field(
        None, strict=True, ge=0, le=1, allow_inf_nan=False, description="of the requests, for a shadow or a canary"
    )

    @model_validator(mode="after")
    def _share_fits(self) -> Self:
        if (self.mode == "switch") != (self.share is None):
            wanted = "none" if self.mode == "switch" else "0 to 1"
            raise ValueError(f"`share`: {self.share}, expected {wanted} with mode {self.mode!r}")
        return self


class Loaded(BaseModel):
    """A loaded model."""

    name: str
    version: str
    bundle: str
    device: str
    runtime: str
    loaded_at: datetime
    in_work: int = Field(description="requests in progress")

    @classmethod
    def of(cls, model: ServedModel) -> Self:
        """Describe a model."""
        return cls(
            name=model.manifest.name,
            version=model.manifest.version,
            bundle=str(model.bundle.folder),
            device=model.device,
            runtime=model.runtime,
            loaded_at=model.loaded_at,
            in_work=model.leases.count,
        )


class OnTrial(BaseModel):
    """A challenger, and how it is tried."""

    model: Loaded
    mode: Mode
    share: float

    @classmethod
    def of(cls, challenger: Challenger) -> Self:
        """Describe a challenger."""
        return cls(model=Loaded.of(challenger.model), mode=challenger.mode, share=challenger.share)


class Refused(BaseModel):
    """The last bundle that was refused."""

    bundle: str
    detail: str
    at: datetime

    @classmethod
    def of(cls, refusal: Refusal) -> Self:
        """Describe a refusal."""
        return cls(bundle=str(refusal.bundle), detail=refusal.detail, at=refusal.at)


class TaskModels(BaseModel):
    """The models of a task."""

    task: str
    active: Loaded | None
    previous: Loaded | None = Field(description="what a roll-back returns to")
    challenger: OnTrial | None
    change: str | None = Field(description="the change in progress")
    refusal: Refused | None

    @classmethod
    def of(cls, task: str, rollout: Rollout) -> Self:
        """Describe a task."""
        return cls(
            task=task,
            active=Loaded.of(rollout.active) if rollout.active else None,
            previous=Loaded.of(rollout.previous) if rollout.previous else None,
            challenger=OnTrial.of(rollout.challenger) if rollout.challenger else None,
            change=rollout.change,
            refusal=Refused.of(rollout.refusal) if rollout.refusal else None,
        )


class AllModels(BaseModel):
    """The models of all tasks."""

    models: list[TaskModels]
