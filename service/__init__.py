"""From HTTP to scores: admission, tokenisation, batching, onnxruntime."""

import relevance  # noqa: F401  first of all: turns telemetry off before onnxruntime is imported
