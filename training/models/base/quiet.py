"""Filters for what libraries of models write that is wrong or expected here, active only around a call."""

import contextlib
import logging
import sys
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging


def quiet_tokenizers() -> contextlib.AbstractContextManager[None]:
    """Silence the false warning of transformers 4.57 about an 'incorrect regex pattern' in local tokenizers."""
    return _without("transformers.tokenization_utils_base", "incorrect regex pattern")


@contextlib.contextmanager
def quiet_weights() -> Iterator[None]:
    """Silence warnings of weights that are missing or left over: a fresh head, an unused pooler. No bars either."""
    texts = ("newly initialized", "were not used when initializing", "LOAD REPORT")  # the last from transformers 5 on
    with _without("transformers.modeling_utils", *texts), quiet_bars():
        yield


def quiet_kernels() -> contextlib.AbstractContextManager[None]:
    """Silence the advice of bitsandbytes to install the package `kernels`, whose code nothing here calls."""
    return _without("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward")


def quiet_hub() -> contextlib.AbstractContextManager[None]:
    """Silence what huggingface_hub writes of each try to reach a hub, twice; its error tells the same."""
    return _without("huggingface_hub.utils._http", "thrown while requesting", "Retrying in")


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """Leave out the bars that transformers 5 draws while it reads or writes weights, unless stderr is a terminal."""
    if sys.stderr.isatty() or not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()


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
