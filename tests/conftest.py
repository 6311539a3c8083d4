"""Settings of all tests."""

import os

import hypothesis
import pytest

# `make test` tries the same examples each time, so that it fails only for a change. HYPOTHESIS_PROFILE=search tries new
# ones. How long an example takes depends on the machine: no deadline.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# Whether a machine multiplies in bf16 must not decide what a test sees: only tests of OpenVINO choose it.
os.environ["RELEVANCE_CPU_RUNTIME"] = "onnxruntime"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The folder of a tiny QC bundle."""
    from tests.tiny import tiny_bundle

    folder = tmp_path_factory.mktemp("bundle") / "qc"
    tiny_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def slow_bundle(tmp_path_factory):
    """The folder of a QC bundle: 500 pairs of it take around a second."""
    from tests.tiny import tiny_bundle

    folder = tmp_path_factory.mktemp("slow") / "qc"
    tiny_bundle(folder, hidden=256, depth=12)
    return folder
