"""From two verified bundles of a task to a cascade: band, golden pairs, card and manifest. Made whole or not at all."""

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from export.bands import StageScores, choose_band, common_scale, held_out
from export.dev_rows import DevRows
from relevance.errors import ConfigError, InputError
from relevance.evaluation.metrics import Scored, evaluate
from relevance.evaluation.soundness import Labelling, findings
from relevance.model.bundle import MANIFEST_FILE, Bundle, Golden, Manifest, hashed_files, write_bundle_files
from relevance.model.card import Calibration, score_reference
from relevance.model.cascade import LARGE, SMALL, STAGES, Band, CascadeRule, CascadeSummary
from relevance.model.cascade_session import open_model
from relevance.model.openvino_model import BF16_TOLERANCE
from relevance.model.session import BundleSession, Logits
from relevance.storage.files import whole_folder
from relevance.storage.locks import locks_output
from relevance.storage.outputs import check_outputs
from relevance.tasks import query_key

log = logging.getLogger(__name__)

GOLDEN_A_KIND = 2  # golden pairs of each language that are passed on, and that are not


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage's bundle, its logits [N] of the dev rows, and the seconds that they took."""

    bundle: Bundle
    logits: Logits
    seconds: float

    @classmethod
    def of(cls, bundle: Bundle, rows: DevRows) -> "_Stage":
        session = BundleSession.open(bundle)
        began = time.perf_counter()
        logits = session.logits(session.inputs.encode(rows.pairs))
        return cls(bundle, logits, time.perf_counter() - began)


@locks_output("out")
def make_cascade(
    small: Path, large: Path, out: Path, dev: Path, max_f1_loss: float, *, overwrite: bool = False
) -> Manifest:
    """Write the cascade bundle `out` of the bundles `small` and `large`, its band chosen on labelled rows `dev`.

    Raises ConfigError where `out` exists and may not be replaced, BundleError for a damaged bundle, InputError for
    bundles that do not belong together and for rows that cannot be used.
    """
    check_outputs([out], [small, large, dev], overwrite=overwrite)
    if not 0 <= max_f1_loss < 1:
        raise ConfigError(f"--max-f1-loss {max_f1_loss}: expected 0 or more, below 1")
    bundles = [Bundle.open(folder) for folder in (small, large)]
    _check_stages(bundles)
    rows = DevRows.read(dev, bundles[1].manifest.task)
    first, second = (_Stage.of(bundle, rows) for bundle in bundles)
    card, summary = _chosen(first, second, rows, max_f1_loss)
    with whole_folder(out) as folder:
        for name, bundle in zip(STAGES, bundles, strict=True):
            for file in (MANIFEST_FILE, *hashed_files(bundle.folder, bundle.manifest)):
                (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle.folder / file, folder / name / file)
        rule = CascadeRule(bundles[0].manifest, bundles[1].manifest, summary.scale, summary.band)
        golden, tolerance = _golden(rule, first, second, rows)
        manifest = card.model_copy(update={"cascade": summary, "golden_tolerance": tolerance, "sha256": {}})
        sealed = write_bundle_files(folder, Manifest.model_validate(dict(manifest)), golden)
        open_model(Bundle.open(folder))  # as the service does
    for finding in sealed.findings:
        log.warning("%s: %s", out, finding)
    return sealed


def _check_stages(bundles: Sequence[Bundle]) -> None:
    """Raise InputError for bundles that cannot be the stages of one cascade."""
    for bundle in bundles:
        if bundle.manifest.cascade is not None:
            raise InputError(f"bundle {bundle.folder}: is a cascade itself; expected a bundle of one model")
    small, large = bundles
    if small.manifest.task is not large.manifest.task:
        raise InputError(
            f"bundle {small.folder}: task {small.manifest.task.value}, and {large.folder}: task "
            f"{large.manifest.task.value}; expected two models of one task"
        )
    if small.manifest.version == large.manifest.version:
        raise InputError(
            f"bundles {small.folder} and {large.folder}: are the same, {small.manifest.version}; "
            "expected a small model and a larger one"
        )


def _chosen(small: _Stage, large: _Stage, rows: DevRows, max_f1_loss: float) -> tuple[Manifest, CascadeSummary]:
    """Choose the band; return the large model's manifest with what the cascade changes of it, and the summary."""
    first, second = small.bundle.manifest, large.bundle.manifest
    languages = rows.languages
    large_labels = second.labels(second.scores(large.logits, languages), languages)
    calibrated = [m.calibration.logits(s.logits, languages) for m, s in ((first, small), (second, large))]
    scale = common_scale(*calibrated, rows.labels)
    distances = CascadeRule(first, second, scale, Band(below=0, above=0)).distances(small.logits, languages)
    scores = StageScores(rows.labels, distances, large_labels)
    band = choose_band(scores, max_f1_loss)
    summary = CascadeSummary(
        versions={SMALL: first.version, LARGE: second.version},
        names={SMALL: first.name, LARGE: second.name},
        scale=scale,
        band=band,
        max_f1_loss=max_f1_loss,
        chosen_on=scores.passing(band.holds(distances)),
        held_out=held_out(scores, [pair.query for pair in rows.pairs], max_f1_loss),
        small_cost=small.seconds / large.seconds,
    )
    logits = _logits(CascadeRule(first, second, scale, band), small.logits, large.logits, languages)
    found = _card(first, second, rows, logits)
    return second.model_copy(update=found | {"findings": (*found["findings"], *_doubts(summary))}), summary


def _logits(rule: CascadeRule, small: Logits, large: Logits, languages: Sequence[str]) -> Logits:
    """Return the cascade's logits [N] by both models' logits [N] of all rows."""
    logits, passed = rule.first(small, languages)
    found: Logits = np.where(passed, rule.second(large, languages), logits)
    return found


def _card(small: Manifest, large: Manifest, rows: DevRows, logits: Logits) -> dict[str, Any]:
    """Return the fields of a cascade's card that are not the large model's."""
    bare = large.model_copy(update={"calibration": Calibration()})  # logits of a cascade are calibrated ones
    languages = rows.languages
    scores, seen = bare.scores(logits, languages), sorted({*small.seen_languages} & {*large.seen_languages})
    labels, queries = rows.labels.astype(int).tolist(), [query_key(pair.query) for pair in rows.pairs]
    scored = Scored(labels, scores.tolist(), queries, languages, bare.thresholds(languages).tolist())
    found = findings(Labelling(scores, bare.labels(scores, languages), labels, languages))
    return {
        "name": f"{large.name}-cascade",
        "calibration": Calibration(),
        "metrics": evaluate(scored, bare.threshold, seen),
        "metrics_on": f"{len(labels)} rows of {rows.file.name}: the band was chosen on them, so the metrics flatter",
        "seen_languages": tuple(seen),
        "cosine_auc": None,
        "cosine_gains": {},
        "findings": tuple(f"cascade, rows of {rows.file.name}, {each}" for each in found),
        "license": " and ".join(dict.fromkeys((small.license, large.license))),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    } | score_reference(scores, languages)


def _golden(rule: CascadeRule, small: _Stage, large: _Stage, rows: DevRows) -> tuple[list[Golden], float]:
    """Return golden pairs of each language, passed on and not, and their tolerance in logits of the cascade.

    No pair is within twice that, or that of bf16, of an edge of the band, where one runtime may pass on a pair that
    another one does not.
    """
    languages = rows.languages
    of_large = abs(rule.large.calibration.scale) * large.bundle.manifest.golden_tolerance
    tolerance = max(rule.worth(small.bundle.manifest.golden_tolerance), of_large)
    distances, logits = rule.distances(small.logits, languages), _logits(rule, small.logits, large.logits, languages)
    edges = np.abs(distances[:, None] - [-rule.band.below, rule.band.above]).min(axis=1)
    margin = 2 * max(tolerance, rule.worth(BF16_TOLERANCE))
    is_safe, passed = edges > margin, rule.band.holds(distances)
    places: list[int] = []
    for language in sorted(set(languages)):
        for kind in (passed, ~passed):
            usable = np.flatnonzero(kind & is_safe & (np.array(languages) == language))
            places += usable[:GOLDEN_A_KIND].tolist()
    if not places:
        raise InputError(
            f"{rows.file}: none of {len(languages)} rows is farther than {margin:.3g} (logits) from the edges "
            f"of the band, {-rule.band.below:.3g} and {rule.band.above:.3g}; expected more rows, for golden pairs"
        )
    labels = rows.labels.astype(int).tolist()
    return [Golden(**asdict(rows.pairs[i]), label=labels[i], logit=float(logits[i])) for i in places], tolerance


def _doubts(summary: CascadeSummary) -> list[str]:
    """Return what speaks against a cascade, in sentences."""
    chosen, apart, found = summary.chosen_on, summary.held_out, []
    if not chosen.passed_on:
        found.append("cascade: the small model alone is within the stated loss of F1: serve it without the large one")
    if summary.cost >= 1:
        found.append(f"cascade: costs {summary.cost:.2f} of the large model: serve that one alone")
    if apart.loss > summary.max_f1_loss:
        found.append(
            f"cascade: F1 is {apart.loss:.4f} below the large model's on held-out queries, more than "
            f"{summary.max_f1_loss}: the rows that chose the band are too few to be sure"
        )
    return found
