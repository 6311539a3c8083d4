"""Cross-lingual transfer: rows in other languages, with a teacher's scores as targets.

Must not know what kind of model the teacher is, or how the rows are trained on.
"""
