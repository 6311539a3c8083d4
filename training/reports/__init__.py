"""Pages and plots about data and results.

Must not compute what a stage computes.
"""
