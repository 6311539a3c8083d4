"""The type of every list that a caller sends."""

from typing import Annotated, TypeVar

from pydantic import Field

Element = TypeVar("Element")

# Stops at the first wrong element. A fault takes some 3 kB, so that a list of wrong elements would take far more memory
# and time to refuse than to score.
Many = Annotated[list[Element], Field(fail_fast=True)]
