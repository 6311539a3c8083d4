"""The report of an alignment: pairs by language, and how often a translation's nearest source is its own."""

from relevance.storage.strict import StrictModel


class AlignmentReport(StrictModel):
    """`pairs` are trained on, by the translation's language; `held_out` and `not_drawn` ones were left out.

    Of the first, a text is a held-out query; the others are beyond `most_pairs`.

    `measured` pairs were not trained on: of so many translations, the nearest of `sources` source texts is its own in
    the share `before` and `after`.
    """

    pairs: dict[str, int]
    held_out: int
    not_drawn: int
    measured: int
    sources: int
    before: float
    after: float

    def text(self) -> str:
        """Return the report as text."""
        by_language = ", ".join(f"{count:,} {language}" for language, count in self.pairs.items())
        return (
            f"aligned on {sum(self.pairs.values()):,} pairs of a text and its translation ({by_language}), "
            f"{self.held_out:,} held out, {self.not_drawn:,} beyond most_pairs; of {self.measured:,} translations not "
            f"trained on, {self.after:.0%} are nearest to their own source, of {self.sources:,}; before, "
            f"{self.before:.0%}"
        )
