"""The parts of queries that panels of several rows and dashboards share."""

RATE = "[$__rate_interval]"
OF_JOB = 'job=~"$job"'
OF_TASK = 'job=~"$job", task=~"$task"'


def quantile(share: float, metric: str, selector: str, *by: str) -> str:
    """Return the query of a quantile of a histogram's recent values."""
    return f"histogram_quantile({share}, sum by ({', '.join((*by, 'le'))}) (rate({metric}_bucket{{{selector}}}{RATE})))"


def mean(metric: str, selector: str, *by: str) -> str:
    """Return the query of the mean of a histogram's recent values."""
    above, below = (f"sum by ({', '.join(by)}) (rate({metric}_{end}{{{selector}}}{RATE}))" for end in ("sum", "count"))
    return f"{above} / {below}"
