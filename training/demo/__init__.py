"""The demo: the embedded sample to two served models, with an untuned encoder that answers in the first minutes.

Must not know how a model is trained, exported or served: it calls `training.fitting` and the commands `export` and
`serve`.
"""
