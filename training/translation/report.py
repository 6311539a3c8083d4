"""The report of translation augmentation: counts by language and by reason, and the cost."""

from collections import Counter

from relevance.storage.strict import StrictModel
from training.endpoint.budget import Cost


class Rejection(StrictModel):
    """A translation that did not become a row: its source row, the reason and a detail."""

    source_id: str
    source_language: str
    target: str
    query: str
    translation: str
    reason: str
    detail: str


class LanguageReport(StrictModel):
    """One target language. tried = made + untranslated + the rejected + trimmed; `wanted` is None for all there are.

    `trimmed` are good rows that were left out, the last ones first, to keep the balance of labels after one label ran
    out. `rejected` counts by reason; `sources` and `translators` count the rows made.
    """

    target: str
    wanted: int | None
    made: int
    positive: int
    eligible: int
    tried: int
    untranslated: int
    trimmed: int
    rejected: dict[str, int]
    sources: dict[str, int]
    translators: dict[str, int]

    @property
    def short(self) -> int:
        """Rows that were wanted and could not be made."""
        return max((self.wanted or 0) - self.made, 0)

    def why_none(self) -> str:
        """Return why no row was made, in words."""
        counts = {"without a translation": self.untranslated}
        counts |= {f"rejected by {reason}": count for reason, count in self.rejected.items()}
        counts |= {"left out for the balance of labels": self.trimmed}
        found = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        if not self.eligible:
            return f"{self.target}: no row to translate; expected original rows in a language that a translator knows"
        return f"{self.target}: none made of {self.eligible:,} rows; {self.tried:,} tried: {found or 'none'}"


class TranslationReport(StrictModel):
    """The whole stage. `stopped` says why it ended early with what it had (options.at_budget = keep), else None.

    `left_out` counts rows that are linked with dev or test rows; they are neither translated nor written.
    `source_held_out` counts rows not translated because dev has their query. `texts_asked` counts texts sent to a
    translator (`memory` is free), `cache_hits` texts found in the cache. `texts_per_second` is over both.
    """

    rows_in: int
    rows_out: int
    left_out: int = 0
    made: int
    translators: list[str]
    languages: list[LanguageReport]
    source_held_out: int
    texts_asked: int
    cache_hits: int
    cost: Cost
    seconds: float
    texts_per_second: float
    stopped: str | None = None

    def rejected(self) -> dict[str, int]:
        """Return the rejections of all languages by reason, most frequent first."""
        total = sum((Counter(language.rejected) for language in self.languages), Counter[str]())
        return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))

    def why_none(self) -> list[str]:
        """Return a line for each language of which no row was made: why."""
        stopped = f"; stopped early: {self.stopped}" if self.stopped else ""
        return [one.why_none() + stopped for one in self.languages if not one.made]

    def text(self) -> str:
        """Return the report in words: a line a language, then reasons, cost and rate."""
        lines = [f"{self.rows_in:,} rows in, {self.made:,} made, {self.rows_out:,} out"]
        if self.left_out:
            lines.append(f"  {self.left_out:,} more rows left out: dev or test hold them")
        for one in self.languages:
            wanted = "" if one.wanted is None else f" of {one.wanted:,} wanted"
            share = 100 * one.positive / one.made if one.made else 0.0
            trimmed = f", {one.trimmed:,} left out for the balance" if one.trimmed else ""
            lines.append(
                f"  {one.target:4} {one.made:7,} rows{wanted}, {share:.1f} % positive; {one.tried:,} rows tried of "
                f"{one.eligible:,}, {one.untranslated:,} without a translation, "
                f"{sum(one.rejected.values()):,} rejected{trimmed}"
            )
        lines += [f"  rejected by {reason}: {count:,}" for reason, count in self.rejected().items()]
        lines.append(
            f"  {self.texts_asked:,} texts asked for, {self.cache_hits:,} from the cache, {self.texts_per_second:,.0f} "
            f"texts/s, {self.cost.charged_tokens:,} tokens, {self.cost.money:g} of money"
        )
        return "\n".join(lines + ([f"  stopped early: {self.stopped}"] if self.stopped else []))
