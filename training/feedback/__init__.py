"""Feedback logs of the service to training rows, and to the verdict on two interleaved models.

Must not know the service that wrote the logs, or how a model is trained.
"""
