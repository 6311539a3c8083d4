"""Which pairs run next: jobs, batches, fair turns. Driven by a clock from outside.

Must not know text, tokenisers or onnxruntime.
"""
