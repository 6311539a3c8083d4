"""Fine-tuning: the optimiser loop, its schedule, evaluation, calibration, the checkpoint.

Must not know the data strategies.
"""
