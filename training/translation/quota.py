"""Target languages, and for each of them a quota: how many rows of each language and label are translated next."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from relevance.errors import ConfigError
from relevance.languages import UNKNOWN_LANGUAGE
from relevance.tasks import LabeledPair
from training.data.stored.rows import strata_of
from training.translation.options import TranslationOptions

LABELS = (0, 1)
Stratum = tuple[str, int]  # source language, label


def target_languages(
    options: TranslationOptions, rows: Sequence[LabeledPair], dev: Sequence[LabeledPair]
) -> tuple[str, ...]:
    """Return the target languages of the options, or those of dev that `rows` lack, sorted. ConfigError if none."""
    if options.targets:
        return tuple(dict.fromkeys(options.targets))
    seen, wanted = ({language for language, _ in strata_of(some)} for some in (rows, dev))
    missing = sorted(wanted - seen - {UNKNOWN_LANGUAGE})
    if not missing:
        raise ConfigError(
            "targets: none given, and dev has no language that training lacks; expected targets or such a dev"
        )
    return tuple(missing)


@dataclass
class Quota:
    """How many rows of each label one target still needs, and how many of each language to try next."""

    target: str
    wanted: int | None
    eligible: int
    positive_share: float
    is_share_set: bool  # by the user, not taken from the rows
    languages: frozenset[str]  # that rows are translated from
    _weights: Mapping[str, float]
    _left: dict[Stratum, int]
    _made: Counter[Stratum] = field(default_factory=Counter)

    def next_counts(self, most: int) -> list[tuple[Stratum, int]]:
        """Return how many rows to try next, at most `most` per label; none if the quota is met or no row is left."""
        counts = [each for label in LABELS for each in self._next_of(label, most)]
        for stratum, count in counts:
            self._left[stratum] -= count
        return counts

    def add(self, language: str, label: int) -> None:
        """Count a row that was made."""
        self._made[language, label] += 1

    def has_room(self, label: int) -> bool:
        """Whether rows of a label are still wanted."""
        return self.wanted is None or self._missing(label, []) > 0

    def limits(self) -> dict[int, int] | None:
        """Return how many rows of each label to keep for the balance of labels, or None if all are kept."""
        made = {label: self._of(label) for label in LABELS}
        is_full = self.wanted is not None and sum(made.values()) >= self.wanted
        if is_full or (self.wanted is None and not self.is_share_set):
            return None
        shares = {0: 1 - self.positive_share, 1: self.positive_share}
        total = min(made[label] / shares[label] for label in LABELS if shares[label] > 0)
        return {label: min(round(total * shares[label]), made[label]) for label in LABELS}

    def _of(self, label: int) -> int:
        return sum(count for (_, of), count in self._made.items() if of == label)

    def _missing(self, label: int, live: list[Stratum]) -> int:
        if self.wanted is None:
            return sum(self._left[stratum] for stratum in live)
        positive = round(self.wanted * self.positive_share)
        return (positive if label else self.wanted - positive) - self._of(label)

    def _next_of(self, label: int, most: int) -> list[tuple[Stratum, int]]:
        live = [stratum for stratum in self._left if stratum[1] == label and self._left[stratum]]
        missing = min(self._missing(label, live), most)
        if missing <= 0 or not live:
            return []
        weights = {stratum: self._weights[stratum[0]] for stratum in live}
        made = {stratum: self._made[stratum] for stratum in live}
        counts = (
            (stratum, min(count, self._left[stratum])) for stratum, count in _shares(missing, weights, made).items()
        )
        return [each for each in counts if each[1]] or [(live[0], 1)]


def quota_for(
    target: str,
    originals: Counter[str],
    eligible: Counter[Stratum],
    options: TranslationOptions,
    supports: Callable[[str, str], bool],
) -> Quota:
    """Return the quota of a target language. ConfigError if no translator supports any of the source languages.

    `originals` are the rows, by language, that no stage made. `eligible` are those of them, by language and label,
    whose query is not held out.
    """
    weights = _weights(options, originals, target)
    known = frozenset(language for language in weights if supports(language, target))
    if not known:
        raise ConfigError(
            f"target language {target!r}: no translator can translate into it from "
            f"{', '.join(sorted(weights)) or 'any row'}; expected a translator of these languages, or another target"
        )
    left = {stratum: count for stratum, count in sorted(eligible.items()) if stratum[0] in known}
    positive = _positive_share(left, {name: weights[name] for name in sorted(known)})
    return Quota(
        target=target,
        wanted=options.rows_per_language,
        eligible=sum(left.values()),
        positive_share=positive if options.positive_share is None else options.positive_share,
        is_share_set=options.positive_share is not None,
        languages=known,
        _weights=weights,
        _left=left,
    )


def _weights(options: TranslationOptions, counts: Counter[str], target: str) -> dict[str, float]:
    """Return the weight of each source language among the rows made."""
    others = {language: float(count) for language, count in sorted(counts.items()) if language != target}
    if options.sources == "one":
        name = options.source_language or UNKNOWN_LANGUAGE
        if name not in others:
            raise ConfigError(f"source_language {name!r}: no row has it; expected one of {', '.join(others) or 'none'}")
        return {name: 1.0}
    if options.sources == "most_frequent" and others:
        return {max(others, key=lambda language: others[language]): 1.0}
    return dict.fromkeys(others, 1.0) if options.sources == "all" else others


def _positive_share(rows: Mapping[Stratum, int], weights: Mapping[str, float]) -> float:
    """Return the share of positives in the source rows, with the languages weighted as in the rows made."""
    share = total = 0.0
    for language, weight in weights.items():
        counts = [rows.get((language, label), 0) for label in LABELS]
        if sum(counts):
            share += weight * counts[1] / sum(counts)
            total += weight
    return share / total if total else 0.0


def _shares(missing: int, weights: dict[Stratum, float], made: dict[Stratum, int]) -> dict[Stratum, int]:
    """Divide `missing` rows so that all rows made are as near to the weights as possible, by largest remainder."""
    total = missing + sum(made.values())
    scale = sum(weights.values())
    wanted = {stratum: max(total * weight / scale - made[stratum], 0.0) for stratum, weight in weights.items()}
    factor = missing / max(sum(wanted.values()), 1e-9)
    exact = {stratum: value * factor for stratum, value in wanted.items()}
    shares = {stratum: int(value) for stratum, value in exact.items()}
    by_remainder = sorted(exact, key=lambda stratum: (shares[stratum] - exact[stratum], stratum))
    for stratum in by_remainder[: missing - sum(shares.values())]:
        shares[stratum] += 1
    return shares
