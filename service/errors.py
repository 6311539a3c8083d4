"""The errors of a request and of the service; `service.api.problems` has their statuses."""

from relevance.errors import InputError, MachineError


class MalformedJsonError(InputError):
    """The body is not JSON."""


class MediaTypeError(InputError):
    """The body is not declared as JSON."""


class InvalidRequestError(InputError):
    """The body is JSON, but not a request of this interface: a key is unknown, missing or of the wrong kind."""


class UnknownTaskError(InputError):
    """No bundle of this task is served."""


class UnknownReportError(InputError):
    """No loaded model has this version or report, or the file of the report is no longer as it was."""


class TooLargeError(InputError):
    """The body, the number of pairs or a text is over its limit."""


class ReportsOffError(InputError):
    """No API keys are set, and the operator has not opened the reports to everybody."""


class UnauthorizedError(InputError):
    """The request carries no API key, or one that is unknown or has expired."""


class ForbiddenError(InputError):
    """The request's API key does not have the scope that the route needs."""


class BulkOffError(InputError):
    """The operator has switched bulk scoring off."""


class FeedbackOffError(InputError):
    """The service has no feedback log."""


class TooSlowError(InputError):
    """A bulk caller sent or read too slowly."""


class OverloadedError(MachineError):
    """The queue is full. `retry_after_seconds` says when to try again."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooManyRequestsError(OverloadedError):
    """The maximum number of requests is in progress."""


class KeyRateError(OverloadedError):
    """The API key is over its requests a second."""


class KeyConcurrencyError(OverloadedError):
    """The API key is at its maximum of concurrent requests."""


class DeadlineError(MachineError):
    """The answer cannot be ready, or was not ready, by the caller's deadline."""


class UnavailableError(MachineError):
    """The service is not ready, or its inference thread has ended."""

    retry_after_seconds = 1


class ModelRetiredError(MachineError):
    """The model of a bulk request was replaced and is no longer loaded."""


class ScoringError(MachineError):
    """The model run with the request's pairs failed."""


class ConflictError(InputError):
    """The models of a task cannot be changed: another change is in progress, or there is no model to change to."""


class BundleRefusedError(InputError):
    """A new bundle is damaged, fails its self-test or is not for this task; nothing has changed."""


class ClientGoneError(InputError):
    """The caller closed the connection before the answer."""
