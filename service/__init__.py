"""From HTTP to scores: admission, tokenisation, batching, onnxruntime."""
