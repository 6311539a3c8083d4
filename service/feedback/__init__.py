"""The feedback log: sampled scores and what users did with them, in whole files, beside the requests' way.

Must not know models, HTTP or who reads the log.
"""
