"""A model as training, export and service share it: bundle and card, inputs, prior, head and onnxruntime session.

Must not know how a model is trained, exported or served.
"""
