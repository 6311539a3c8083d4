"""The Python client of the service: scores, re-ranks and feedback, with retries and budgets. Needs the extra `client`.

Must not know models or tokens, and nothing of the service but its HTTP.
"""

from relevance.client.clients import BULK_ROWS, AsyncClient, Client
from relevance.client.feedback import FeedbackEvent, FeedbackResult
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
    "FeedbackEvent",
    "FeedbackResult",
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
