"""The page of `relevance evaluate`: charts and rows of tables for the template `evaluation.html`."""

from collections.abc import Mapping

from markupsafe import Markup

from relevance.evaluation.intervals import Interval
from relevance.evaluation.metrics import Slice
from relevance.evaluation.ranking import Ranking
from relevance.model.card import ModelCard
from training.fitting.evaluation.comparison import Comparison
from training.reports import charts
from training.reports.charts import Curve, Dot, Plane
from training.reports.curves import BudgetCurve, CalibrationCurve, ThresholdCurve
from training.reports.evaluation import Evaluation
from training.reports.mistakes import MOST_WORDS, Effect, Mistake
from training.reports.template import render_page

_SECTIONS = {
    "comparison": "Beside other models",
    "languages": "By language",
    "depths": "By depth of the category path",
    "lengths": "By length of the query",
    "calibration": "Calibration",
    "threshold": "F1 over the threshold",
    "ranking": "Rankings within queries",
    "budget": "nDCG over the number of pairs scored",
    "false_positives": "The worst false positives",
    "false_negatives": "The worst false negatives",
}
_SHOWN_WORDS = 8
_LEAST_EFFECT = 0.005  # of a logit: it would show as 0.00


def render(found: Evaluation, card: ModelCard, file: str) -> str:
    """Return the page of an evaluation with its analysis.

    Texts from the data are escaped, and the page forbids scripts and requests whatever it holds.
    """
    analysis = found.analysis
    if analysis is None:
        raise ValueError("render: an evaluation without its analysis")
    shown = {
        "comparison": bool(found.comparisons),
        "depths": bool(analysis.depths),
        "threshold": bool(found.all.positives),
        "budget": analysis.budget is not None,
    }
    return render_page(
        "evaluation.html",
        title=f"Evaluation: {card.name} on {file}",
        card=card,
        report=found,
        analysis=analysis,
        sections={key: heading for key, heading in _SECTIONS.items() if shown.get(key, True)},
        errors={label: [each for each in analysis.mistakes if each.label == label] for label in (0, 1)},
        most_words=MOST_WORDS,
        show=_Shown(),
    )


class _Shown:
    """What the template asks for: charts, and cells of tables."""

    def slices(self, found: Mapping[str, Slice]) -> list[tuple[str, ...]]:
        """Return a row of a table for each slice."""
        metrics = {name: (part.f1, part.always_yes_f1, part.f1_gain, part.auc) for name, part in found.items()}
        return [
            (name, f"{part.rows:,}", f"{part.positives / part.rows:.0%}", *map(self.number, metrics[name]))
            for name, part in found.items()
        ]

    def rankings(self, found: Mapping[str, Ranking]) -> list[tuple[str, ...]]:
        """Return a row of a table for the queries of each slice."""
        metrics = ("ndcg_at_10", "mrr_at_10", "precision", "pairwise_accuracy")
        return [
            (name, f"{part.queries:,}", *(self.number(getattr(part, metric)) for metric in metrics))
            for name, part in found.items()
        ]

    def areas(self, title: str, found: Mapping[str, Slice]) -> Markup:
        """Return AUC by slice as a chart; a slice of one label has none."""
        return _dots(title, {name: part.auc for name, part in found.items()}, 0.5)

    def differences(self, each: Comparison) -> Markup:
        """Return differences of AUC, of all rows and by language, as a chart."""
        return _dots(f"AUC less that of {each.folder}", {"all": each.auc.difference} | each.languages, 0)

    def calibration(self, curve: CalibrationCurve) -> Markup:
        """Return the share of label 1 over the mean score."""
        points = Curve([each.mean_score for each in curve.bins], [each.positive_share for each in curve.bins])
        plane = Plane("mean score of the bin", "share of label 1", diagonal=True, limits=(0, 1))
        return Markup(charts.line_chart("Calibration", points, plane))

    def threshold(self, curve: ThresholdCurve, chosen: float, always_yes: float) -> Markup:
        """Return F1 over one threshold for all rows."""
        plane = Plane("threshold", "F1", (always_yes, f"always yes {always_yes:.3f}"), (chosen, f"chosen {chosen:.3f}"))
        return Markup(charts.line_chart("F1 over the threshold", Curve(curve.thresholds, curve.f1), plane))

    def budget(self, curve: BudgetCurve) -> Markup:
        """Return nDCG@10 over the mean number of re-ranked candidates."""
        values = [each.ndcg_at_10 for each in curve.points]
        ends = ([each.low or 0.0 for each in values], [each.high or 0.0 for each in values])
        points = Curve([each.pairs for each in curve.points], [each.value or 0.0 for each in values], *ends)
        return Markup(charts.line_chart("nDCG@10", points, Plane("pairs scored a query, mean", "nDCG@10")))

    def effects(self, mistake: Mistake) -> list[tuple[Effect, str, str]]:
        """Return the words of the largest effects, with their change of the logit and its direction."""
        shown = [each for each in mistake.effects if abs(each.change) >= _LEAST_EFFECT][:_SHOWN_WORDS]
        return [(each, f"{each.change:+.2f}", "up" if each.change > 0 else "down") for each in shown]

    def number(self, found: Interval, form: str = ".3f") -> str:
        """Return a value with its interval."""
        return format(found, form)


def _dots(title: str, found: Mapping[str, Interval], line: float) -> Markup:
    dots = [Dot.of(name, each.value, (each.low, each.high)) for name, each in found.items() if each.value is not None]
    return Markup(charts.dot_chart(title, dots, line) if dots else "")
