"""The Python client of the service: scores and re-ranks, retries, and keeps to a budget. Needs the extra `client`.

Must not know models or tokens, and nothing of the service but its HTTP.
"""

from relevance.client.clients import BULK_ROWS, AsyncClient, Client
from relevance.client.rerank import RerankPolicy, RerankResult
from relevance.client.types import (
    AnswerError,
    BulkScore,
    CircuitOpenError,
    ClientError,
    DeadlineError,
    MixedModelsError,
    OverloadedError,
    RefusedError,
    RetryPolicy,
    ScoreResult,
    ServiceFaultError,
    UnavailableError,
    UnreachableError,
)

__all__ = [
    "BULK_ROWS",
    "AnswerError",
    "AsyncClient",
    "BulkScore",
    "CircuitOpenError",
    "Client",
    "ClientError",
    "DeadlineError",
    "MixedModelsError",
    "OverloadedError",
    "RefusedError",
    "RerankPolicy",
    "RerankResult",
    "RetryPolicy",
    "ScoreResult",
    "ServiceFaultError",
    "UnavailableError",
    "UnreachableError",
]
