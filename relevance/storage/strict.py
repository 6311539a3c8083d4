"""The base of records that come from files or go into them: unknown keys are errors, and nothing changes afterwards."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A pydantic model that refuses unknown keys and cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OptionsModel(StrictModel):
    """A strict record of options, read from a recipe: numbers are finite too."""

    model_config = ConfigDict(allow_inf_nan=False)
