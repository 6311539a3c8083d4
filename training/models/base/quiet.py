"""Filters for warnings of transformers that are wrong or expected here, active only around a call."""

import contextlib
import logging
from collections.abc import Iterator


def quiet_tokenizers() -> contextlib.AbstractContextManager[None]:
    """Silence the false warning of transformers 4.57 about an 'incorrect regex pattern' in local tokenizers."""
    return _without("transformers.tokenization_utils_base", "incorrect regex pattern")


def quiet_weights() -> contextlib.AbstractContextManager[None]:
    """Silence warnings of weights that are missing or left over: a fresh head, an unused pooler."""
    return _without("transformers.modeling_utils", "newly initialized", "were not used when initializing")


@contextlib.contextmanager
def _without(logger_name: str, *texts: str) -> Iterator[None]:
    def keep(record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in texts)

    logger = logging.getLogger(logger_name)
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
