"""From a checkpoint folder to a verified ONNX bundle."""

import relevance  # noqa: F401  first of all: turns telemetry off before onnxruntime is imported
