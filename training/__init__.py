"""Offline: from noisy query logs to fine-tuned QC and QI cross-encoders.

Must not know the export or the service: it meets them through files and commands.
"""

import relevance  # noqa: F401  first of all: turns telemetry off before onnxruntime is imported
from training.threads import wait_passively

wait_passively()  # here, since it counts only before anything loads torch
