"""The dashboard for operators: load, errors, durations, queue, batches, memory."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.cascades import cascades
from deploy.grafana.panels import Look, Panel, Query, board, buckets, choice, listing, now, over_time
from deploy.grafana.queries import OF_JOB, OF_TASK, RATE, mean, quantile

OF_ROUTE = 'job=~"$job", route=~"$route"'
OF_REQUEST = (
    'job=~"$job", route=~"$route", task=~"$task", pairs=~"$pairs", pairs!="0"'  # 0 is no scoring: scrapes, probes
)
PARTS = ("queue", "tokenize", "run", "serialize")


def operations() -> Dashboard:
    """Return the dashboard."""
    rows = (
        ("At a glance", at_a_glance()),
        ("Requests", requests()),
        ("Durations", durations()),
        ("Queue", queue()),
        ("Batches", batches()),
        ("Memory, processor, caches", machine()),
        ("Models", models()),
        ("Cascades", cascades()),
    )
    made = board("relevance-operations", "Relevance: operations", "Is it up, fast, and free of rejections?", rows)
    for name, label in (("task", "Task"), ("route", "Route"), ("pairs", "Candidates")):
        source = "relevance_request_duration_seconds_count"
        made = made.with_variable(choice(name, label, f'label_values({source}{{job=~"$job", {name}!=""}}, {name})'))
    return made


def at_a_glance() -> Sequence[Panel]:
    """Return the panels that summarise the state of the service."""
    return (
        now(
            "Scoring requests",
            "Requests per second on the scoring routes without bulk, over 5 minutes.",
            Look("reqps", width=4),
            Query(f"sum(job:relevance_scoring_requests:rate5m{{{OF_JOB}}})"),
        ),
        now(
            "Failed",
            "Share of scoring requests that ended with a 5xx in 5 minutes. The objective: 0.1 %.",
            Look("percentunit", 0.001, 0.0144, "RelevanceErrorBurnFast", width=4),
            Query(f"max(job:relevance_failed_requests:ratio_rate5m{{{OF_JOB}}})"),
        ),
        now(
            "Slow",
            "Share of requests of up to 100 candidates that took over 0.5 s in 5 minutes. The objective: 1 %.",
            Look("percentunit", 0.01, 0.144, "RelevanceLatencyBurnFast", width=4),
            Query(f"max(job:relevance_slow_requests:ratio_rate5m{{{OF_JOB}}})"),
        ),
        now(
            "Rejected",
            "Share of scoring requests answered with 429, over 5 minutes.",
            Look("percentunit", 0.01, 0.05, "RelevanceShedding", width=4),
            Query(
                "max(sum by (job) (job_reason:relevance_rejections:ratio_rate5m"
                f'{{{OF_JOB}, reason=~"overloaded|too_many_requests"}}))'
            ),
        ),
        now(
            "Not ready or not reachable",
            "Instances that answer /readyz with 503, and those that Prometheus cannot reach.",
            Look("none", None, 1, "RelevanceNotReady", width=4),
            Query(f"count((relevance_ready{{{OF_JOB}}} == 0) or (up{{{OF_JOB}}} == 0)) or vector(0)"),
        ),
        now(
            "Failures, 3 days",
            "Share of the 30-day error budget (0.1 % of requests) that the rate of the last 3 days would use.",
            Look("percentunit", 0.5, 1, "RelevanceErrorBurnSlow", width=4),
            Query(f"max(job:relevance_failed_requests:ratio_rate3d{{{OF_JOB}}}) / 0.001"),
        ),
    )


def requests() -> Sequence[Panel]:
    """Return rate and errors."""
    return (
        over_time(
            "Requests by route",
            "Requests answered per second.",
            Look("reqps", stacked=True),
            Query(f"sum by (route) (job_route_status:relevance_requests:rate5m{{{OF_ROUTE}}} > 0)", "{{route}}"),
        ),
        over_time(
            "Answers by status",
            "499: the caller closed the connection, often because of its own short timeout.",
            Look("reqps", stacked=True),
            Query(f"sum by (status) (job_route_status:relevance_requests:rate5m{{{OF_ROUTE}}} > 0)", "{{status}}"),
        ),
        over_time(
            "Problems by reason",
            "Share of scoring requests that ended with each of the reasons of docs/api.md, over 5 minutes.",
            Look("percentunit", None, 0.05, "RelevanceShedding"),
            Query(f"job_reason:relevance_rejections:ratio_rate5m{{{OF_JOB}}} > 0", "{{job}} {{reason}}"),
        ),
    )


def durations() -> Sequence[Panel]:
    """Return how long requests and their parts take."""
    whole = "relevance_request_duration_seconds"
    recorded = f"job_route_pairs:{whole}"
    selector = 'job=~"$job", route=~"$route", pairs=~"$pairs"'
    return (
        over_time(
            "Duration by candidates",
            "Over 5 minutes, from the first byte of the request to the last of the answer, on the slowest route.",
            Look("s", None, 0.5, "RelevanceLatencyBurnFast", width=12),
            *(
                Query(f"max by (pairs) ({recorded}:{name}_rate5m{{{selector}}})", f"{{{{pairs}}}} {name}")
                for name in ("p50", "p95", "p99")
            ),
        ),
        buckets(
            "Duration, all requests",
            "Requests by duration. One band is good; two bands mean two kinds of load.",
            Look("s", width=12),
            f"sum by (le) (increase({whole}_bucket{{{OF_REQUEST}}}{RATE}))",
        ),
        over_time(
            "Parts of requests, p95",
            "queue: waiting for the model; run: the model runs that the request was in; serialize: writing the answer.",
            Look("s", width=12),
            *(Query(quantile(0.95, f"relevance_{part}_duration_seconds", OF_REQUEST), part) for part in PARTS),
        ),
        buckets(
            "Time in the queue",
            "Requests by time in the queue.",
            Look("s", width=12, runbook="RelevanceQueueDelay"),
            f"sum by (le) (increase(relevance_queue_duration_seconds_bucket{{{OF_REQUEST}}}{RATE}))",
        ),
    )


def queue() -> Sequence[Panel]:
    """Return the backlog, waiting times and dropped work."""
    return (
        over_time(
            "Backlog in tokens",
            "Tokens admitted and not yet scored. Bulk work waits behind interactive requests.",
            Look("none", stacked=True),
            Query(
                f"sum by (task, priority) (relevance_queued_tokens{{{OF_TASK}}})",
                "{{task}} {{priority}}",
            ),
        ),
        over_time(
            "Waiting time",
            "p95 of the time in the queue over 5 minutes, and the age of the oldest waiting request now.",
            Look("s", None, 0.25, "RelevanceQueueDelay"),
            Query(f"job_task:relevance_queue_duration_seconds:p95_rate5m{{{OF_TASK}}}", "{{job}} {{task}} p95"),
            Query(f"max by (job, task) (relevance_oldest_wait_seconds{{{OF_TASK}}})", "{{job}} {{task}} oldest"),
        ),
        over_time(
            "Admitted and dropped",
            "Requests admitted per second, and those dropped: expired (deadline missed, 504) or caller_gone.",
            Look("reqps"),
            Query(f"sum by (task) (rate(relevance_admitted_requests_total{{{OF_TASK}}}{RATE}))", "{{task}} admitted"),
            Query(
                f"sum by (task, why) (rate(relevance_dropped_requests_total{{{OF_TASK}}}{RATE}))", "{{task}} {{why}}"
            ),
        ),
    )


def batches() -> Sequence[Panel]:
    """Return the sizes and durations of the model runs."""
    return (
        over_time(
            "Tokens per second",
            "Tokens scored without padding over 5 minutes, and the model's throughput when busy. If equal, it is full.",
            Look("none"),
            Query(f"job_task:relevance_tokens:rate5m{{{OF_TASK}}}", "{{job}} {{task}} scored"),
            Query(f"sum by (job, task) (relevance_tokens_per_second{{{OF_TASK}}})", "{{job}} {{task}} throughput"),
        ),
        over_time(
            "Pairs per run",
            "Mean and p95 of the pairs in a model run.",
            Look("none"),
            Query(mean("relevance_batch_pairs", OF_TASK, "task"), "{{task}} mean"),
            Query(quantile(0.95, "relevance_batch_pairs", OF_TASK, "task"), "{{task}} p95"),
        ),
        over_time(
            "Padded tokens per run",
            "Mean of the tokens in a model run, with padding.",
            Look("none"),
            Query(mean("relevance_batch_tokens", OF_TASK, "task"), "{{task}}"),
        ),
        over_time(
            "Duration of a run",
            "p50 and p95. Long runs make short requests wait: see RELEVANCE_TARGET_RUN_MS.",
            Look("s"),
            *(
                Query(quantile(share, "relevance_batch_duration_seconds", OF_TASK, "task"), f"{{{{task}}}} {name}")
                for share, name in ((0.5, "p50"), (0.95, "p95"))
            ),
        ),
        buckets(
            "Pairs in runs",
            "Model runs by number of pairs.",
            Look("none"),
            f"sum by (le) (increase(relevance_batch_pairs_bucket{{{OF_TASK}}}{RATE}))",
        ),
        over_time(
            "Padding",
            "Share of the tokens run that were padding, over 5 minutes.",
            Look("percentunit", 0.3, 0.5, maximum=1),
            Query(f"job_task:relevance_padding_tokens:ratio_rate5m{{{OF_TASK}}}", "{{job}} {{task}}"),
        ),
    )


def machine() -> Sequence[Panel]:
    """Return memory, processor, caches and GPU."""
    return (
        over_time(
            "Memory",
            "Resident memory of the process, and its limit.",
            Look("bytes", runbook="RelevanceMemoryNearLimit"),
            Query(f"relevance_resident_memory_bytes{{{OF_JOB}}}", "{{instance}} in use"),
            Query(f"relevance_memory_limit_bytes{{{OF_JOB}}}", "{{instance}} limit"),
        ),
        over_time(
            "Processor",
            "Cores in use by the process.",
            Look("none"),
            Query(f"rate(process_cpu_seconds_total{{{OF_JOB}}}{RATE})", "{{instance}}"),
        ),
        over_time(
            "Cache hits",
            "Share of lookups that were hits, over 5 minutes: tokens of texts, and scores if that cache is on.",
            Look("percentunit", maximum=1),
            Query(f"job_task_cache:relevance_cache_hits:ratio_rate5m{{{OF_TASK}}}", "{{job}} {{task}} {{cache}}"),
        ),
        over_time(
            "GPU memory",
            "Used memory, by this service or others, and total memory. Empty without a GPU or nvidia-ml-py.",
            Look("bytes", runbook="RelevanceGpuMemoryNearLimit"),
            Query(f"relevance_gpu_memory_used_bytes{{{OF_JOB}}}", "{{instance}} {{gpu}} in use"),
            Query(f"relevance_gpu_memory_total_bytes{{{OF_JOB}}}", "{{instance}} {{gpu}} total"),
        ),
        over_time(
            "GPU use",
            "Share of time that the GPU was busy. Empty without a GPU or nvidia-ml-py.",
            Look("percentunit", maximum=1),
            Query(f"relevance_gpu_utilization_ratio{{{OF_JOB}}}", "{{instance}} {{gpu}}"),
        ),
        over_time(
            "Deaths of inference threads",
            "A thread is restarted once; after a second death the service is not ready.",
            Look("none", None, 1, "RelevanceInferenceRestarted"),
            Query(f"relevance_inference_restarts_total{{{OF_TASK}}}", "{{instance}} {{task}}"),
        ),
    )


def models() -> Sequence[Panel]:
    """Return the loaded models and their changes."""
    return (
        listing(
            "Models",
            "The models loaded in each instance now.",
            Look("none", width=16),
            Query(f"relevance_model_info{{{OF_TASK}}} == 1"),
        ),
        over_time(
            "Model changes",
            "Per hour: switched, refused (a check failed, the old model stays active), rolled back, promoted.",
            Look("none", runbook="RelevanceBundleRefused"),
            Query(
                f"sum by (task, result) (increase(relevance_model_changes_total{{{OF_TASK}}}[1h]))",
                "{{task}} {{result}}",
            ),
        ),
    )
