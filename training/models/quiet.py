"""Warnings of transformers that are false or expected here, silenced one by one and only around the call."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_tokenizers() -> Iterator[None]:
    """Silence the false warning of transformers 4.57 about an 'incorrect regex pattern' in local tokenizers."""
    with _without("transformers.tokenization_utils_base", "incorrect regex pattern"):
        yield


@contextlib.contextmanager
def quiet_weights() -> Iterator[None]:
    """Silence what is said of weights without a place or places without weights: a fresh head, an unused pooler."""
    with _without("transformers.modeling_utils", "newly initialized", "were not used when initializing"):
        yield


@contextlib.contextmanager
def _without(logger_name: str, *texts: str) -> Iterator[None]:
    def keep(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(text in message for text in texts)

    logger = logging.getLogger(logger_name)
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
