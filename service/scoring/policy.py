"""Builds a model's scheduling policy from the settings, the device and its maximum length. Knows no scheduler."""

from dataclasses import replace

from service.batch_shape import BatchShape
from service.scheduling.fair_queue import SchedulingPolicy
from service.settings import Settings


def scheduling_policy(
    settings: Settings, device: str, shape: BatchShape, max_length: int, cores: int
) -> SchedulingPolicy:
    """Return the policy of a model that reads `max_length` tokens on `cpu` or `cuda`, in batches of a shape."""
    shape = shape.limited_to(max_length)
    return SchedulingPolicy(
        replace(shape, max_tokens=settings.max_batch_tokens or shape.max_tokens),
        target_run_seconds=settings.target_run_ms / 1000,
        target_latency_seconds=settings.aimed_latency_seconds,
        bulk_patience_seconds=settings.bulk_patience_ms / 1000,
        concurrent_runs=settings.runs_at_once(device, cores),
        max_failed_runs=settings.max_failed_runs,
    )
