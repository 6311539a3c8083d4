"""Write the reference pages beside this file out of the code: commands, settings of the service, keys of recipes.

`python docs/reference/build.py` renews the pages. tests/unit/project/test_docs.py fails if a page is out of date.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

FOLDER = Path(__file__).resolve().parent
MADE = "<!-- Made by `python docs/reference/build.py`. Change the code's help texts, not this page. -->"
LONGEST_DEFAULT = 60
ABOUT_COMMANDS = (
    "`--help` prints the same for each command; `relevance --version` prints the version. Results go to standard "
    "output, messages to standard error. A user error ends with one line and a status that is not 0."
)
ABOUT_SETTINGS = (
    "Each setting is an environment variable. `relevance serve` has options for the common ones. `relevance settings` "
    "prints this list. At start the log names variables that begin with `RELEVANCE_` and are no setting."
)
ABOUT_RECIPES = (
    "A recipe is a TOML file, for example [configs/qc.toml](../../configs/qc.toml). `relevance pipeline run` reads all "
    "sections; `relevance train` and `relevance validate` read their own. An unknown key is an error. "
    "`--set SECTION.KEY=VALUE` overrides a key. [pipeline.md](../pipeline.md) says what each stage does."
)
READING = {"--column", "--encoding", "--delimiter", "--quotes", "--grades", "--clicks"}
PARAMETER = ("argument or option", "value", "default", "meaning")

# Keys of recipes that the code does not describe.
MEANINGS = {
    "name": "name of the model; it stands in the card, the manifest and every answer",
    "task": "`qc`, `qi` or `rerank`",
    "base_model": "the encoder to fine-tune: `packaged:multilingual-e5-small`, a local folder, or a hub id",
    "seed": "seed of everything random in fine-tuning",
    "head.kind": "how hidden states become a logit: `stock`, `mean`, `paired`, `kernel`, or, of a language model, "
    "`yes_no`",
    "head.width": "width of a paired head's hidden layer; principal components that a kernel head keeps of a segment",
    "head.dropout": "dropout before a `mean` or `paired` head",
    "training.epochs": "passes over the training rows; may be a fraction. 0: the encoder stays as it is, and only the "
    "head's start sees rows; a `kernel` head needs 0 and is solved for",
    "training.batch_size": "pairs in one step of the optimiser",
    "training.learning_rate": "highest learning rate of the encoder",
    "training.head_learning_rate": "highest learning rate of the head; a `yes_no` head, which is pretrained, has "
    "`learning_rate`",
    "training.weight_decay": "weight decay of the optimiser (AdamW)",
    "data.train": "files of training rows",
    "data.dev": "files of dev rows; absent: split from the training rows",
    "data.test": "files of test rows; absent: split from the training rows",
    "cleaning.enabled": "run the stage",
    "translation.enabled": "run the stage; needs `translation.backends`",
    "negatives.enabled": "run the stage",
    "transfer.enabled": "run the stage; needs `transfer.targets` and `transfer.memories`",
    "filtering.enabled": "run the stage",
    "filtering.action": "what happens to flagged rows: `drop`, `relabel`, `weight` or `review` (list them only); "
    "`soften` changes all rows",
    "filtering.models[].seed": "seed of this judge",
    "translation.settings.ctranslate2.device": "`auto`, `cpu` or `cuda`",
    "translation.settings.ctranslate2.beam_size": "beams of the search; more: slower, and at times better",
    "export.enabled": "write a bundle",
    "export.precision": "number format of the bundle's weights",
}


def pages() -> dict[str, str]:
    """Return the text of every generated page, by file name."""
    return {"commands.md": commands_page(), "settings.md": settings_page(), "recipe.md": recipe_page()}


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the full name of every command, as `relevance data clean`, with the command."""
    from relevance.cli import build_app

    def below(group: Any, name: str) -> Iterator[tuple[str, Any]]:
        for word, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, f"{name} {word}")
            else:
                yield f"{name} {word}", command

    return below(typer.main.get_command(build_app()), "relevance")


def settings() -> dict[str, FieldInfo]:
    """Return the service's settings by the name of their environment variable."""
    from service.settings import Settings

    return {f"RELEVANCE_{name.upper()}": field for name, field in Settings.model_fields.items()}


def recipe_keys() -> dict[str, FieldInfo]:
    """Return the fields of a pipeline recipe by dotted key, those of sections, lists and backends included."""
    from training.pipeline.recipe import PipelineRecipe
    from training.translation.backends.ctranslate2 import CTranslate2Options
    from training.translation.backends.openai_options import OpenAIOptions

    keys = dict(_keys(PipelineRecipe, ""))
    for kind, model in (("ctranslate2", CTranslate2Options), ("openai", OpenAIOptions)):
        found = _keys(model, f"translation.settings.{kind}.")
        keys |= {key: field for key, field in found if key.rpartition(".")[2] not in ("folder", "model", "url")}
    return keys


def meaning(key: str, field: FieldInfo) -> str:
    """Return what a recipe key does; empty where neither the code nor MEANINGS says it."""
    return field.description or MEANINGS.get(key, "")


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if _is_model(each)]
        if not inner:
            yield f"{prefix}{name}", field
        elif inner[0] is field.annotation:
            yield from _keys(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
            yield from _keys(inner[0], f"{prefix}{name}[].")


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def commands_page() -> str:
    """Return the reference of the command line. The options of reading rows, which many commands have, stand once."""
    parts = ["# Commands", MADE, ABOUT_COMMANDS]
    reading: dict[str, Any] = {}
    for name, command in sorted(commands()):
        shown = [each for each in command.params if not getattr(each, "hidden", False)]
        options = {option: each for each in shown for option in each.opts if option != "--help"}
        parts += [f"## {name}", " ".join(inspect.cleandoc(command.help or "").split())]
        if options.keys() >= READING:
            reading = {option: options.pop(option) for option in sorted(READING)}
            parts[-1] += " Also has the [options of reading rows](#options-of-reading-rows)."
        parts += [_table(PARAMETER, map(_parameter, options.values()))] if options else []
    parts += ["## Options of reading rows", "[rows.md](../rows.md) says what is read, and how."]
    return "\n\n".join([*parts, _table(PARAMETER, map(_parameter, reading.values()))]) + "\n"


def _parameter(parameter: Any) -> tuple[str, str, str, str]:
    is_argument = parameter.opts == [parameter.name]
    name = parameter.name.upper() if is_argument else " / ".join([*parameter.opts, *parameter.secondary_opts])
    value = "" if getattr(parameter, "is_flag", False) else parameter.metavar or _kind(parameter)
    told = getattr(parameter, "show_default", None)
    default = told if isinstance(told, str) else "needed" if parameter.required else _default(parameter.default)
    return f"`{name}`", value, default, parameter.help or ""


def _kind(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    while get_origin(kind) in (list, Union, UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{each.value}`" for each in kind)
    if get_origin(kind) is not None:
        return ", ".join(f"`{each}`" for each in get_args(kind))
    word = {int: "integer", float: "number", str: "text", Path: "path"}[kind]
    low, high = parameter.min, parameter.max
    limits = [f"{low:g} or more"] if low is not None and high is None else []
    limits = [f"{low:g} to {high:g}"] if low is not None and high is not None else limits
    return " ".join([word, *limits])


def settings_page() -> str:
    """Return the table of the service's settings."""
    rows = [(f"`{name}`", _default(field.default), field.description or "") for name, field in settings().items()]
    table = _table(("variable", "default", "meaning"), rows)
    return "\n\n".join(["# Settings of the service", MADE, ABOUT_SETTINGS, table]) + "\n"


def recipe_page() -> str:
    """Return the tables of a recipe's keys, one for each section."""
    sections: dict[str, list[tuple[str, str, str]]] = {}
    for key, field in recipe_keys().items():
        section, dot, name = key.partition(".")
        section, name = (section, name) if dot else ("", key)
        sections.setdefault(section, []).append((f"`{name}`", _field_default(field), meaning(key, field)))
    parts = ["# Keys of a recipe", MADE, ABOUT_RECIPES]
    for section, rows in sections.items():
        head = f"## [{section}]" if section else "## Outside any section"
        parts += [head, _table(("key", "default", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def _field_default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    return _default(field.get_default(call_default_factory=True))


def _default(value: Any) -> str:
    """Return a default as a user would write it."""
    if value is None or value in ((), [], {}):
        return ""
    if value == "":
        return '`""`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
        value = [each.model_dump(mode="json", exclude_defaults=False) for each in value]
    elif isinstance(value, tuple):
        value = [each.value if isinstance(each, Enum) else each for each in value]
    text = str(value)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else f"a list of {len(value)}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    cells = [[re.sub(r"\s+", " ", cell).replace("|", "\\|").strip() for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


if __name__ == "__main__":
    for file, text in pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
        print(FOLDER / file)
