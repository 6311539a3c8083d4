"""The source code and package versions that a function's result depends on.

A cached result is valid while they stay the same, so nobody has to raise a version by hand. Names are followed through
the syntax trees of this project's modules: a function counts with the functions, classes, constants and data files
that it names, and those with theirs. Comments, docstrings and annotations of functions do not count.

Not seen: methods called on an object whose class is never named on the way, and names built at run time.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = frozenset({"relevance", "training", "export"})
# They report, write files or raise errors: a change there changes no result.
NEUTRAL_MODULES = frozenset(
    {
        "relevance.errors",
        "relevance.storage.files",
        "relevance.storage.locks",
        "training.progress",
        "training.models.base.quiet",
        "training.threads",
    }
)
NEUTRAL_PACKAGES = frozenset({"httpx2", "openai", "pydantic", "ray", "rich", "typer"})
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "lingua": "lingua-language-detector"}
_DEFINES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_IMPORTS = ast.Import | ast.ImportFrom

Symbol = tuple[str, str]  # module and name; the name is "*" for a whole module


@dataclass(frozen=True, slots=True)
class Source:
    """The digest of all source reached, and the version of each package imported on the way."""

    digest: str
    packages: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Module:
    """The statements that define each top-level name, and what each imported name stands for."""

    folder: Path
    definitions: dict[str, list[ast.AST]]
    imports: dict[str, Symbol]


def source_of(*functions: str) -> Source:
    """Return the source of functions given as `module:name` or `module:Class.method`. KeyError for an unknown one."""
    return _source_of(functions)


def code_key(*functions: str) -> str:
    """Return the digest of the source of functions and of the package versions, for a cache's key."""
    found = source_of(*functions)
    return hashlib.sha256(repr((found.digest, sorted(found.packages.items()))).encode()).hexdigest()


@functools.cache
def _source_of(functions: tuple[str, ...]) -> Source:
    waiting: list[Symbol] = [(module, name) for module, _, name in (text.partition(":") for text in functions)]
    seen: set[Symbol] = set()
    parts: list[str] = []
    roots: set[str] = set()
    while waiting:
        symbol = waiting.pop()
        if symbol in seen:
            continue
        seen.add(symbol)
        module, name = symbol
        root = module.partition(".")[0]
        if root not in PROJECT:
            roots.add(root)
        elif module not in NEUTRAL_MODULES:
            nodes = _nodes(module, name)
            parts += [f"{module}:{name}:{ast.dump(node)}" for node in nodes]
            for node in nodes:
                waiting += _references(module, node)
                parts += _data_files(module, node)
    digest = hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()
    return Source(digest, {"python": _python()} | {name: _version(name) for name in sorted(_third_party(roots))})


def _nodes(module: str, name: str) -> list[ast.AST]:
    """Return the statements that define a name; none where the module only imports it or it is no part of it."""
    held = _module(module)
    if name == "*":
        return [node for nodes in held.definitions.values() for node in nodes]
    outer, _, method = name.partition(".")
    if not method:
        return held.definitions.get(name, [])
    members = [member for node in held.definitions[outer] for member in ast.walk(node) if isinstance(member, _DEFINES)]
    found: list[ast.AST] = [member for member in members if member.name == method]
    if not found:
        raise KeyError(f"{module}:{name}: no such method")
    return found


def _references(module: str, node: ast.AST) -> Iterator[Symbol]:
    """Yield the symbols that a statement names: those of its module, and those imported by the module or within."""
    held = _module(module)
    imports = held.imports | _imports([each for each in ast.walk(node) if isinstance(each, _IMPORTS)])
    attributes = {id(each.value): each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    for each in ast.walk(node):
        if not isinstance(each, ast.Name):
            continue
        if each.id in imports:
            yield from _imported(*imports[each.id], attributes.get(id(each)))
        elif each.id in held.definitions:
            yield module, each.id


def _imported(module: str, name: str, attribute: str | None) -> Iterator[Symbol]:
    """Yield the symbol behind an imported name; of an imported module only the `attribute` that is used."""
    if module.partition(".")[0] not in PROJECT:
        yield module, name
    elif name != "*" and _path(f"{module}.{name}"):
        yield f"{module}.{name}", attribute or "*"
    elif name in (held := _module(module)).definitions or name == "*":
        yield module, name
    elif name in held.imports:
        yield from _imported(*held.imports[name], attribute)


@functools.cache
def _module(name: str) -> _Module:
    path = _path(name)
    if path is None:
        raise KeyError(f"{name}: no such module with a source")
    tree = _Bare().visit(ast.parse(path.read_bytes()))
    definitions: dict[str, list[ast.AST]] = {}
    imports: list[ast.Import | ast.ImportFrom] = []
    for node in tree.body:
        imports += [each for each in ast.walk(node) if isinstance(each, _IMPORTS)]
        for defined in _defined(node):
            definitions.setdefault(defined, []).append(node)
    return _Module(path.parent, definitions, _imports(imports, within=definitions))


def _defined(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _DEFINES):
        yield node.name
    elif not isinstance(node, _IMPORTS | ast.Expr):
        names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
        yield from {each.id for each in names if isinstance(each.ctx, ast.Store)}


def _imports(
    nodes: list[ast.Import | ast.ImportFrom], within: dict[str, list[ast.AST]] | None = None
) -> dict[str, Symbol]:
    """Return what imported names stand for; imports within functions of a module are those functions' own."""
    inner = {
        id(each)
        for definitions in (within or {}).values()
        for node in definitions
        for each in ast.walk(node)
        if isinstance(node, _DEFINES)
    }
    found: dict[str, Symbol] = {}
    for node in nodes:
        if id(node) in inner:
            continue
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                found[alias.asname or alias.name] = (node.module or "", alias.name)
            else:
                found[alias.asname or alias.name.partition(".")[0]] = (alias.name, "*")
    return found


def _data_files(module: str, node: ast.AST) -> Iterator[str]:
    """Yield the digests of files beside the module that a statement names, as a table of words."""
    folder = _module(module).folder
    texts = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    for file in sorted(folder.iterdir()):
        if file.name in texts and file.suffix != ".py" and file.is_file():
            yield f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}"


@functools.cache
def _path(name: str) -> Path | None:
    """Return a module's file without importing the module; None where there is none."""
    root, *rest = name.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent.joinpath(*rest)
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def _third_party(roots: set[str]) -> set[str]:
    return roots - sys.stdlib_module_names - NEUTRAL_PACKAGES - {"service", ""}


def _version(root: str) -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(root, root))
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}, Unicode {unicodedata.unidata_version}"


class _Bare(ast.NodeTransformer):
    """Removes docstrings and the annotations of functions from a tree."""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        """Strip a function or a coroutine function."""
        node.body, node.returns = _without_docstring(node.body), None
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        for argument in every:
            if argument is not None:
                argument.annotation = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Strip a class; its annotated fields stay, since pydantic's and dataclasses' behaviour lies in them."""
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    text = first.value if isinstance(first, ast.Expr) else None
    return body[1:] if isinstance(text, ast.Constant) and isinstance(text.value, str) else body
