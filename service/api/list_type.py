"""The type of all lists in request bodies."""

from typing import Annotated, TypeVar

from pydantic import Field

Element = TypeVar("Element")

# Validation stops at the first wrong element. An error takes some 3 kB, so a list of wrong elements would take far more
# memory and time to refuse than to score.
Many = Annotated[list[Element], Field(fail_fast=True)]
