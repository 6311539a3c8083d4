"""Marks of tests that need a package of an extra."""

from importlib.util import find_spec

import pytest

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install '.[qlora]'"
)
