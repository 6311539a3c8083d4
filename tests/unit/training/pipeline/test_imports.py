"""What the pipeline imports before a stage needs it."""

import subprocess
import sys


def test_the_stages_of_rows_do_without_the_packages_of_models():
    """They take seconds and hundreds of megabytes, in each run that changes rows alone."""
    heavy = {"torch", "transformers", "sklearn", "onnx", "onnxruntime", "optimum", "ray"}
    code = f"import sys, training.pipeline.run; print(*sorted({heavy!r} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == []
