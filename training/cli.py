"""The commands of `training`, as `relevance` finds them."""

import typer

from relevance.storage.locks import locks_output
from training.commands.ablate import ablate
from training.commands.demo import demo
from training.commands.models.align import align
from training.commands.models.ask import ask
from training.commands.models.evaluate import evaluate
from training.commands.models.import_model import import_model
from training.commands.models.precisions import precisions
from training.commands.models.score import score
from training.commands.models.train import encoder, train
from training.commands.pipeline import pipeline
from training.commands.rows.data import data
from training.commands.rows.feedback import from_logs, interleaving
from training.commands.rows.negatives import negatives
from training.commands.rows.sample import sample
from training.commands.rows.transfer import transfer
from training.commands.rows.translate import convert_translator, translate
from training.commands.rows.validate import apply_review, validate

app = typer.Typer()
data.command("from-logs")(locks_output("out")(from_logs))
data.command()(interleaving)
app.add_typer(data, name="data")
app.add_typer(pipeline, name="pipeline")
for command in (ablate, align, ask, demo, evaluate, score, train):
    app.command()(command)
for command in (apply_review, convert_translator, encoder, negatives, precisions, sample, validate):
    app.command(command.__name__.replace("_", "-"))(locks_output("out")(command))
for command in (transfer, translate):
    app.command()(locks_output("out")(command))
app.command("import")(locks_output("out")(import_model))
