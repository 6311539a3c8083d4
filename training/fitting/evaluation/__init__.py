"""What scores of labelled rows say: calibration, thresholds, metrics, comparison of two models.

Must not know how a model is trained.
"""
