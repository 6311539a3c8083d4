"""Which model answers: loading, promotion, rollback, challengers and shadow traffic.

Must not know HTTP.
"""
