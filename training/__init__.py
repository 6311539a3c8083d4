"""Offline: from noisy query logs to fine-tuned QC and QI cross-encoders."""
