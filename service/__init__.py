"""From HTTP to scores: admission, tokenisation, batching, onnxruntime.

Must not know torch, transformers or training: it reads bundles only.
"""

import relevance  # noqa: F401  first of all: turns telemetry off before onnxruntime is imported
