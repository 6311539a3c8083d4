"""Feedback logs of the service to training rows.

Must not know the service that wrote the logs, or how a model is trained.
"""
