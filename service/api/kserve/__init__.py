"""The Open Inference Protocol (KServe v2): health, metadata, and scoring of BYTES tensors.

Must not know how models are changed, or how pairs are batched.
"""
