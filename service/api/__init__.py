"""HTTP requests to calls, and results to answers, in our shape and in those of other vendors.

Must not know threads, onnxruntime, or how batches are made.
"""
