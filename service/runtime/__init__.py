"""The session of a model, in onnxruntime or OpenVINO, and the device that it runs on.

Must not know requests or queues.
"""
