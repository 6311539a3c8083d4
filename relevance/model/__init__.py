"""A model as training, export and service share it: bundle, card, inputs, prior, head, and sessions of two runtimes.

Must not know how a model is trained, exported or served.
"""
