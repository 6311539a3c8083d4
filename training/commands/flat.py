"""A command's options, declared once: a model in the signature of a command becomes one option a field.

The fields of a pydantic model give their options by name, bounds, default and description. A dataclass says its options
as a Typer command does: in the annotations of its fields.
"""

import inspect
import re
import types
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from relevance.card import explain
from relevance.errors import ConfigError

Parameters = list[inspect.Parameter]
Values = dict[str, Any]


class Fields:
    """Mark of a parameter with the fields of its pydantic model that become options (none: all fields).

    The other fields keep their default. `flags` give fields options of other names than their own.
    """

    def __init__(self, *names: str, **flags: str) -> None:
        self.names, self.flags = names, flags


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose models are replaced by the options of their fields.

    Options are keyword-only, and of two with one name both models get the value. The command raises ConfigError for
    values that a model refuses.
    """
    parameters, call = _flat(command)
    unique = {parameter.name: parameter for parameter in parameters}
    signature = inspect.Signature(sorted(unique.values(), key=lambda parameter: parameter.kind))

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        given = signature.bind(*arguments, **options)
        given.apply_defaults()
        call(given.arguments)

    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in unique.items()}
    return run


def _flat(function: Callable[..., Any]) -> tuple[Parameters, Callable[[Values], Any]]:
    """Return the flattened parameters of a function, and the function as one of all their values."""
    hints = get_type_hints(function, include_extras=True)
    own = inspect.signature(function).parameters
    groups = {name: group for name in own if (group := _group(hints[name])) is not None}
    parameters = [own[name].replace(annotation=hints[name]) for name in own if name not in groups]
    for further, _ in groups.values():
        parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in further]

    def call(values: Values) -> Any:
        return function(**{name: groups[name][1](values) if name in groups else values[name] for name in own})

    return parameters, call


def _group(hint: Any) -> tuple[Parameters, Callable[[Values], Any]] | None:
    """Return the parameters that stand for a type and what makes its value of them; None where it stands for itself."""
    kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    for mark in marks:
        if isinstance(mark, Fields):
            return _model_options(kind, mark)
    return _flat(kind) if is_dataclass(kind) and isinstance(kind, type) else None


def _model_options(model: type[BaseModel], mark: Fields) -> tuple[Parameters, Callable[[Values], Any]]:
    fields = {name: model.model_fields[name] for name in mark.names or model.model_fields}
    inner = {name: _model_options(field.annotation, Fields()) for name, field in fields.items() if _is_model(field)}
    parameters = [parameter for further, _ in inner.values() for parameter in further]
    parameters += [_option(name, field, mark.flags.get(name)) for name, field in fields.items() if name not in inner]

    def make(values: Values) -> BaseModel:
        given: Values = {name: build(values) for name, (_, build) in inner.items()}
        given |= {name: values[name] for name in fields.keys() - inner.keys() if values[name] is not None}
        return checked(model, {name: _parsed(name, fields[name], value) for name, value in given.items()})

    return parameters, make


def _is_model(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def checked(model: type[BaseModel], values: Values) -> Any:
    """Return a model of the values. ConfigError where it refuses them."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"options: {explain(error)}") from None


def _option(name: str, field: FieldInfo, flag: str | None) -> inspect.Parameter:
    """Return the parameter that stands for a field of a model."""
    kind, default = _plain(field.annotation), field.get_default(call_default_factory=True)
    if get_origin(kind) is list:
        flag = flag or _flag(name)
        default = None if not field.is_required() and not default else default
    elif default is False:
        flag = flag or f"--{name.replace('_', '-')}"  # without it, Typer makes a second flag that says no
    least = next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)
    most = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)
    told = re.sub(r"^[a-z]+(?= )", lambda word: word[0].capitalize(), f"{field.description}.")
    option = typer.Option(*([flag] if flag else []), help=told, min=least, max=most)
    annotation = Annotated[kind | None if default is None else kind, option]
    default = inspect.Parameter.empty if field.is_required() else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _plain(kind: Any) -> Any:
    """Return the type that the command line reads for a type: a list for tuples, NAME=VALUE for items of a mapping."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _plain(arguments[0])
    if origin in (Union, types.UnionType):
        [found] = [_plain(each) for each in arguments if each is not types.NoneType]
        return found
    if origin is dict:
        return list[str]
    return list[_plain(arguments[0])] if origin is tuple else kind  # type: ignore[misc]


def _flag(name: str) -> str:
    """Return the option for one of several values: `--method` for `methods`."""
    return f"--{name.removesuffix('s').replace('_', '-')}"


def _parsed(name: str, field: FieldInfo, value: Any) -> Any:
    """Return a field's value: that of a mapping made of its NAME=VALUE words."""
    if get_origin(field.annotation) is not dict:
        return value
    items = [word.partition("=") for word in value]
    for word, (key, equals, item) in zip(value, items, strict=True):
        if not (key.strip() and equals and item.strip()):
            example = f", as {field.examples[0]}" if field.examples else ""
            raise ConfigError(f"{_flag(name)} {word!r}: expected NAME=VALUE{example}")
    return {key.strip(): item.strip() for key, _, item in items}
