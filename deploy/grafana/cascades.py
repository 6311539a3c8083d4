"""The row of the operators' dashboard that shows cascades: what is passed on, and what each of the two models costs."""

from collections.abc import Sequence

from deploy.grafana.panels import Look, Panel, Query, over_time
from deploy.grafana.queries import OF_TASK, RATE, mean, quantile

PAIRS = "relevance_cascade_pairs_total"
SECONDS = "relevance_cascade_stage_duration_seconds"


def cascades() -> Sequence[Panel]:
    """Return the panels; they are empty where no cascade is served."""
    passed, every = (
        f"sum by (job, task) (rate({PAIRS}{{{selector}}}{RATE}))" for selector in (f'{OF_TASK}, stage="large"', OF_TASK)
    )
    return (
        over_time(
            "Pairs passed on",
            "Share of a cascade's pairs that the large model scores again. At 1 it is slower than that model alone.",
            Look("percentunit", maximum=1),
            Query(f"{passed} / {every}", "{{job}} {{task}}"),
        ),
        over_time(
            "Time in each model, mean",
            "Of a request, by part. Tokenising for the small model is in the parts of requests above.",
            Look("s"),
            Query(mean(SECONDS, OF_TASK, "task", "stage", "part"), "{{task}} {{stage}} {{part}}"),
        ),
        over_time(
            "Time in each model, p95",
            "Of a request, by part. The large model's parts count requests that pass on at least one pair.",
            Look("s"),
            Query(quantile(0.95, SECONDS, OF_TASK, "task", "stage", "part"), "{{task}} {{stage}} {{part}}"),
        ),
    )
