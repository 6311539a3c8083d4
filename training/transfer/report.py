"""The report of transfer: the texts that were used, the rows by language, and their targets."""

from relevance.storage.strict import StrictModel


class TransferReport(StrictModel):
    """The whole stage.

    `texts` are the memory's different texts in the source language, `held_out` those that were left out because dev or
    test has their query, `untranslated` those that have no translation into a target, or only ones that dev or test
    has. `pairs` are those that the teacher scored, `known` the rows that were not made because the given rows, or an
    earlier text, have that query and candidate already. `shares` are the 10th, 50th and 90th percentile of the targets.
    """

    rows_in: int
    rows_out: int
    left_out: int
    texts: int
    held_out: int
    untranslated: int
    pairs: int
    known: int
    made: dict[str, int]
    shares: list[float]

    def text(self) -> str:
        """Return the report as text."""
        by_language = ", ".join(f"{count:,} {language}" for language, count in self.made.items())
        low, middle, high = self.shares
        return (
            f"{self.rows_in:,} rows and {sum(self.made.values()):,} that the teacher labelled ({by_language}), of "
            f"{self.texts:,} texts less {self.held_out:,} of dev or test and {self.untranslated:,} without a "
            f"translation; {self.known:,} rows left out, whose pairs were there already; targets {low:.2f} / "
            f"{middle:.2f} / {high:.2f} (10th, 50th, 90th percentile)"
        )
