"""The onnxruntime session and the device that it runs on.

Must not know requests or queues.
"""
