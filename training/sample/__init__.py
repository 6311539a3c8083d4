"""The embedded multilingual sample: a small invented shop and a generator of query logs. All of it is synthetic.

Must not know models, or what the rows are used for.
"""
