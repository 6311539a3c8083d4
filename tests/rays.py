"""A Ray of this machine for tests: small, without a dashboard, without statistics of its use, on 127.0.0.1 alone."""

import contextlib
from importlib.util import find_spec

import pytest

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install '.[ray]'")


@contextlib.contextmanager
def local_ray(cpus):
    """Start it as `relevance score --ray local` does."""
    from training.scoring.ray.start import set_patience, started

    set_patience()
    import ray.data

    with started("local", cpus):
        yield ray
