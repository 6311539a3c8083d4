"""How good scores are: F1, AUC, nDCG, their intervals, and whether the labels of a model say anything.

Must not know models, texts and files.
"""
