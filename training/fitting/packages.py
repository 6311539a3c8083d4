"""Checks before any work that the packages which a recipe asks for are installed. Imports none of them."""

from importlib.util import find_spec

from relevance.errors import ConfigError
from training.fitting.recipe import Recipe


def check_packages(recipe: Recipe) -> None:
    """Raise ConfigError where a package of an extra that the recipe needs is not installed."""
    asked = {"peft": ("lora.rank", recipe.lora.rank), "bitsandbytes": ("lora.load_in_4bit", recipe.lora.load_in_4bit)}
    for package, (key, value) in asked.items():
        if value and find_spec(package) is None:
            extra = "qlora" if recipe.lora.load_in_4bit else "lora"
            raise ConfigError(f"{key}: package {package!r} is not installed; expected: pip install '.[train,{extra}]'")
