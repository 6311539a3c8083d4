"""Translation augmentation: queries of labelled pairs in further languages, by replaceable translators."""
