"""The optimiser loop: losses, schedule, precision, the guard against divergence, snapshots, several processes.

Must not know files of rows, thresholds or cards.
"""
