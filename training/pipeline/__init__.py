"""The stages in one run, from clean, split, translate, mine, filter and transfer to train and export; kept by content.

Must not hold what a stage does: it calls the strategies, and decides only what runs again.
"""
