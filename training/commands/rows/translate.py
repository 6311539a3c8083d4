"""The commands `translate` and `convert-translator`."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from relevance.errors import ConfigError
from training.commands.flat import Fields, flattened
from training.commands.options import OUT_HELP, Output, OverwriteOption, TaskOption, TrainArgument
from training.data.files.writers import check_ending, check_files
from training.translation.options import GateOptions, TranslationOptions, TranslationSources


class Options(TranslationOptions):
    """The options of the stage. Quality gates are switched off by name."""

    without_gate: tuple[str, ...] = Field((), description="switch off a quality gate; repeat")

    def with_gates(self) -> TranslationOptions:
        """Return the options without the gates that are switched off. ConfigError for an unknown gate."""
        known = GateOptions.model_fields
        for name in self.without_gate:
            if name not in known:
                raise ConfigError(f"--without-gate {name}: no such gate; expected one of {', '.join(known)}")
        gates = GateOptions.model_validate(dict.fromkeys(self.without_gate, False))
        return TranslationOptions(**self.model_dump(exclude={"without_gate", "gates"}), gates=gates)


OPTIONS = Fields(
    *("targets", "rows_per_language", "sources", "source_language", "positive_share", "without_gate"),
    *("at_budget", "seed"),
)


@flattened
def translate(
    file: TrainArgument,
    out: Annotated[Path, typer.Argument(help=f"The file to write: these pairs and the translated ones. {OUT_HELP}")],
    task: TaskOption,
    options: Annotated[Options, OPTIONS],
    sources: Annotated[TranslationSources, Fields(settings="--set")],
    output: Output,
) -> None:
    """Add rows in other languages: the query is translated, candidate and label stay. Bad translations are left out.

    Rows linked with dev or test rows, by query or `source_id`, are left out. Do not use a memory that has queries of
    dev or test. To resume an interrupted run, repeat the command.
    """
    from training.data.keep_out import files_beside
    from training.translation.files import cache_file, translate_file

    inputs = [file, *files_beside(file, task), sources.like, *sources.keep_out, *sources.memories]
    check_files(
        [out, sources.rejected],
        inputs,
        others=[sources.report],
        kept=cache_file(out, sources),
        overwrite=output.overwrite,
    )
    check_ending(sources.report, ".json")
    output.report(translate_file(file, out, task, options.with_gates(), sources), out)


def convert_translator(
    model: Annotated[str, typer.Argument(help="A transformers folder or hub id: M2M100, NLLB, MADLAD-400, Marian.")],
    out: Annotated[Path, typer.Argument(help="The folder to make, for --backend ctranslate2:FOLDER.")],
    quantization: Annotated[str, typer.Option(help="int8, int8_float16, float16, bfloat16 or float32.")] = "int8",
    overwrite: OverwriteOption = False,
) -> None:
    """Convert a translation model with CTranslate2 and put its tokenizer beside it."""
    from training.translation.backends.ctranslate2 import convert_model

    check_files([], [Path(model)], others=[out], overwrite=overwrite)
    convert_model(model, out, quantization)
    print(f"{out}: converted, {quantization}")
