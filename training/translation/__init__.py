"""Translation augmentation: queries of labelled pairs in further languages, by replaceable translators.

Must not know relevance models, or the other strategies.
"""
