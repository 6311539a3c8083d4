"""The stages in one run: clean, split, translate, mine, filter, train, calibrate, evaluate, export; kept by content."""
