"""Settings of all tests."""

import os

import hypothesis

# `make test` tries the same examples each time, so that it fails only for a change. HYPOTHESIS_PROFILE=search tries new
# ones. How long an example takes depends on the machine: no deadline.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# Whether a machine multiplies in bf16 must not decide what a test sees: only tests of OpenVINO choose it.
os.environ["RELEVANCE_CPU_RUNTIME"] = "onnxruntime"
