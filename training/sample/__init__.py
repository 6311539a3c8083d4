"""The embedded multilingual sample: a small invented shop and a generator of query logs. All of it is synthetic."""
