"""Cross-lingual transfer: rows in other languages, with a teacher's scores as targets."""
