"""From a checkpoint folder to a verified ONNX bundle: graph, parity check, golden pairs.

Must not know rows, training or HTTP: it reads the checkpoint's files and writes the bundle's.
"""

import relevance  # noqa: F401  first of all: turns telemetry off before onnxruntime is imported
