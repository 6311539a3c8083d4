"""The stages in one run: clean, split, translate, mine, filter, train, calibrate, evaluate, export; kept by content.

Must not hold what a stage does: it calls the strategies, and decides only what runs again.
"""
