"""A model in a command's signature becomes one option a field, and comes back as the model."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from relevance.errors import ConfigError
from training.commands.flat import Fields, flattened


class Inner(BaseModel):
    tab: str | None = Field(None, description="the tabulator")


class Model(BaseModel):
    kind: Literal["a", "b"] = Field("a", description="the kind")
    share: float | None = Field(None, gt=0, description="auto:the share")
    names: tuple[str, ...] = Field((), description="a name")
    rates: dict[str, float] = Field({}, description="a rate", examples=["de=0.4"])
    count: int = Field(3, ge=1, le=9, description="how many")
    dry: bool = Field(False, description="no work")
    kept: bool = Field(True, description="keep")
    inner: Inner = Inner()
    secret: str = "own"


SHOWN = Fields("kind", "share", "names", "rates", "count", "dry", "kept", "inner", names="--called")


@dataclass(frozen=True)
class Group:
    model: Annotated[Model, SHOWN]
    seed: Annotated[int, typer.Option(help="Seed.")] = 0


found = []


@flattened
def command(file: str, group: Group, seed: int = 7) -> None:
    """Take it."""
    found.append((file, group, seed))


def run(*words):
    found.clear()
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, words)


def test_fields_are_options_and_come_back_as_the_model():
    words = "rows --kind b --share 0.5 --called x --called y --rate de=0.4 --count 4 --dry --no-kept --tab t --seed 2"
    assert run(*words.split()).exit_code == 0
    model = Model(
        kind="b", share=0.5, names=("x", "y"), rates={"de": 0.4}, count=4, dry=True, kept=False, inner=Inner(tab="t")
    )
    assert found == [("rows", Group(model, 2), 2)]


def test_what_is_not_given_has_the_default_of_the_model():
    assert run("rows").exit_code == 0
    assert found[0][1].model == Model()


def test_help_has_descriptions_choices_and_bounds_and_no_other_field():
    text = run("--help").output
    for part in ("The kind.", "<a|b>", "auto:the share.", "--dry ", "--kept", "--no-kept", "1<=x<=9"):
        assert part in text, part
    assert "--no-dry" not in text
    assert "secret" not in text


def test_the_command_line_checks_choices_and_bounds_and_the_model_the_rest():
    assert run("rows", "--kind", "c").exit_code == 2
    assert run("rows", "--count", "0").exit_code == 2
    with pytest.raises(ConfigError, match=r"options: share: .*greater than 0"):
        command("rows", share=-1.0)
    with pytest.raises(ConfigError, match=r"--rate .de.: expected NAME=VALUE, as de=0\.4"):
        command("rows", rates=["de"])


def test_declaring_the_commands_imports_no_heavy_package():
    heavy = {"numpy", "torch", "pyarrow", "onnxruntime", "transformers", "matplotlib"}
    script = f"import sys, training.cli; sys.exit(str({heavy} & sys.modules.keys() or ''))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.strip() == ""
