"""The dashboard for owners of the scores: their distribution, drift, inputs, and a challenger's scores."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.operations import models
from deploy.grafana.panels import Look, Panel, Query, board, buckets, choice, over_time
from deploy.grafana.queries import OF_JOB, OF_TASK, RATE, quantile

OF_LANGUAGE = 'job=~"$job", task=~"$task", language=~"$language"'
SOME, MUCH = 0.1, 0.25  # the usual bands of the population stability index


def relevance() -> Dashboard:
    """Return the dashboard."""
    rows = (
        ("Scores", scores()),
        ("Drift", drift()),
        ("Inputs", inputs()),
        ("Shadow: the challenger scores requests and answers none", shadow()),
        ("Models and caches", (*models(), caches())),
    )
    about = "Do the scores still mean the same, and would the challenger agree?"
    made = board("relevance-scores", "Relevance: scores and drift", about, rows)
    made = made.with_variable(choice("task", "Task", f"label_values(relevance_scores_total{{{OF_JOB}}}, task)"))
    return made.with_variable(
        choice("language", "Language", f"label_values(relevance_scores_total{{{OF_TASK}}}, language)")
    )


def scores() -> Sequence[Panel]:
    """Return the distribution of the scores."""
    positive = f"job_task_language:relevance_positive_scores:ratio_rate1h{{{OF_LANGUAGE}}}"
    return (
        over_time(
            "Scores by language",
            "Pairs scored per second. other: a language that the model was not trained on; unk: no language given.",
            Look("cps", stacked=True),
            Query(
                f"sum by (task, language) (rate(relevance_scores_total{{{OF_LANGUAGE}}}{RATE})) > 0",
                "{{task}} {{language}}",
            ),
        ),
        over_time(
            "Positive rate by language",
            "Share of the pairs with a score at or above the threshold of their language, over an hour.",
            Look("percentunit", maximum=1),
            Query(positive, "{{job}} {{task}} {{language}}"),
        ),
        over_time(
            "Scores, p10, p50, p90",
            "Over all chosen languages. A median that moves under constant traffic is drift.",
            Look("none", maximum=1),
            *(
                Query(quantile(share, "relevance_score", OF_LANGUAGE, "task"), f"{{{{task}}}} {name}")
                for share, name in ((0.1, "p10"), (0.5, "p50"), (0.9, "p90"))
            ),
        ),
        buckets(
            "Scores",
            "Pairs by score.",
            Look("none", width=24),
            f"sum by (le) (increase(relevance_score_bucket{{{OF_LANGUAGE}}}{RATE}))",
        ),
    )


def drift() -> Sequence[Panel]:
    """Return how far scores and languages are from the bundle's reference."""
    return (
        over_time(
            "Score drift by language (PSI)",
            "Population stability index against the bundle's reference scores: below 0.1 is small, above 0.25 large.",
            Look("none", SOME, MUCH, "RelevanceScoreDrift", width=12),
            Query(
                f"max by (job, task, language) (relevance_score_psi{{{OF_LANGUAGE}}})", "{{job}} {{task}} {{language}}"
            ),
        ),
        over_time(
            "Language drift (PSI)",
            "The same index over the languages of the pairs. Both are empty if the bundle has no reference.",
            Look("none", SOME, MUCH, "RelevanceLanguageDrift", width=12),
            Query(f"max by (job, task) (relevance_language_mix_psi{{{OF_TASK}}})", "{{job}} {{task}}"),
        ),
    )


def inputs() -> Sequence[Panel]:
    """Return languages, unknown tokens and truncation of the inputs."""
    rate = f"(rate(relevance_scores_total{{{OF_TASK}}}{RATE}))"
    return (
        over_time(
            "Language mix",
            "Share of the pairs in each language.",
            Look("percentunit", stacked=True, maximum=1, runbook="RelevanceLanguageDrift"),
            Query(
                f"sum by (task, language) {rate} / on (task) group_left () sum by (task) {rate} > 0",
                "{{task}} {{language}}",
            ),
        ),
        over_time(
            "Unknown tokens",
            "Share of the tokens that are unknown to the tokenizer, over an hour: another script, or broken encoding.",
            Look("percentunit", 0.005, 0.02, "RelevanceUnknownTokens"),
            Query(f"job_task:relevance_unknown_tokens:ratio_rate1h{{{OF_TASK}}}", "{{job}} {{task}}"),
        ),
        over_time(
            "Truncated pairs",
            "Share of the pairs that were cut to the model's length, over an hour.",
            Look("percentunit", 0.05, 0.1, "RelevanceTruncatedInputs"),
            Query(f"job_task:relevance_truncated_pairs:ratio_rate1h{{{OF_TASK}}}", "{{job}} {{task}}"),
        ),
    )


def shadow() -> Sequence[Panel]:
    """Return how a challenger that scores a share of the traffic compares with the active model."""
    shift = "relevance_shadow_score_shift"
    pairs = f"sum by (task) (rate(relevance_shadow_pairs_total{{{OF_TASK}}}{RATE}))"
    return (
        over_time(
            "Disagreements",
            "Share of the shadowed pairs to which the challenger gives the other label.",
            Look("percentunit", 0.05, 0.1),
            Query(
                f"sum by (task) (rate(relevance_shadow_disagreements_total{{{OF_TASK}}}{RATE})) / {pairs}", "{{task}}"
            ),
        ),
        buckets(
            "Score shift",
            "Pairs by the difference between the scores of the challenger and the active model.",
            Look("none"),
            f"sum by (le) (increase({shift}_bucket{{{OF_TASK}}}{RATE}))",
        ),
        over_time(
            "Shadowed and dropped",
            "Pairs per second that the challenger scored too, and requests it dropped because it could not keep up.",
            Look("cps"),
            Query(pairs, "{{task}} pairs"),
            Query(
                f"sum by (task) (rate(relevance_shadow_dropped_requests_total{{{OF_TASK}}}{RATE}))", "{{task}} dropped"
            ),
        ),
    )


def caches() -> Panel:
    """Return the share of pairs whose score was cached."""
    return over_time(
        "Known scores",
        "Share of pairs scored out of the cache, over 5 minutes. Empty where RELEVANCE_SCORE_CACHE_PAIRS is 0.",
        Look("percentunit", maximum=1),
        Query(f'job_task_cache:relevance_cache_hits:ratio_rate5m{{{OF_TASK}, cache="scores"}}', "{{job}} {{task}}"),
    )
