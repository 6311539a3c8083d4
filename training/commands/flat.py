"""Declare the options of a command once: a model in the command's signature becomes one option for each field.

A field of a pydantic model gives name, type, bounds, default and help of its option. The fields of a dataclass have
Typer's annotations, like the parameters of a command.
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

from relevance.errors import ConfigError

Parameters = list[inspect.Parameter]
Values = dict[str, Any]


class Fields:
    """Marks a parameter of a command: these fields of its pydantic model become options. Without names: all fields.

    The other fields keep their defaults. `flags` gives the option of a field another name.
    """

    def __init__(self, *names: str, **flags: str) -> None:
        self.names, self.flags = names, flags


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its models as keyword-only options.

    Two models with a field of the same name get the same value. The command raises ConfigError for invalid values.
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
    """Return the flattened parameters of a function, and a function that calls it with a dict of all values."""
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
    """Return the parameters that replace a type, and a function that builds it from values; None for plain types."""
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
    """Return the model with the values. ConfigError if they are invalid."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        from relevance.model.card import explain  # imports numpy, which `--help` need not wait for

        raise ConfigError(f"options: {explain(error)}") from None


def _option(name: str, field: FieldInfo, flag: str | None) -> inspect.Parameter:
    """Return the parameter for a field of a model."""
    kind, default = _plain(field.annotation), field.get_default(call_default_factory=True)
    if get_origin(kind) is list:
        flag = flag or _flag(name)
        default = None if not field.is_required() and not default else default
    elif default is False:
        flag = flag or f"--{name.replace('_', '-')}"  # without it, Typer adds --no-...
    least = next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)
    most = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)
    text = f"{field.description}." if field.description else ""
    told = re.sub(r"^[a-z]+(?= )", lambda word: word[0].capitalize(), text)
    option = typer.Option(*([flag] if flag else []), help=told, min=least, max=most)
    annotation = Annotated[kind | None if default is None else kind, option]
    default = inspect.Parameter.empty if field.is_required() else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _plain(kind: Any) -> Any:
    """Return the type of an option: a list for a tuple, a list of NAME=VALUE texts for a mapping."""
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
    """Return the name of an option that is repeated, in the singular: `--method` for `methods`."""
    return f"--{name.removesuffix('s').replace('_', '-')}"


def _parsed(name: str, field: FieldInfo, value: Any) -> Any:
    """Return the value of a field; for a mapping, parse its NAME=VALUE texts."""
    if get_origin(field.annotation) is not dict:
        return value
    items = [word.partition("=") for word in value]
    for word, (key, equals, item) in zip(value, items, strict=True):
        if not (key.strip() and equals and item.strip()):
            example = f", as {field.examples[0]}" if field.examples else ""
            raise ConfigError(f"{_flag(name)} {word!r}: expected NAME=VALUE{example}")
    return {key.strip(): item.strip() for key, _, item in items}
