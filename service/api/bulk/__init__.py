"""Scoring of JSON lines as a stream: lines in, lines out, bounded memory and disk.

Must not know the other request shapes.
"""
