"""What each strategy is worth: pipelines that differ in one thing, run with several seeds and compared pair by pair.

Must not know how a stage works: it runs whole pipelines.
"""
