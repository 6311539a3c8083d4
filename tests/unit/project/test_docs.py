"""Docs and code agree: what the code offers is documented, and what the docs name exists. Modelled on datasette's."""

import ast
import importlib.util
import itertools
import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from relevance.tasks import Task
from service.api.admin.app import create_admin_app
from service.api.app import create_app
from service.api.problems import ADMIN_KINDS, REASONS
from service.observability.gpu import GpuCollector
from service.settings import Settings
from tests import ROOT
from training.pipeline.stages import STAGES

TOP = (
    "relevance",
    "training",
    "export",
    "service",
    "docs",
    "deploy",
    "benchmarks",
    "configs",
    "examples",
    "tests",
    "requirements",
)
FILES = [path for name in TOP for path in sorted((ROOT / name).rglob("*")) if "__pycache__" not in path.parts]
FILES += [path for path in ROOT.iterdir() if path.is_file()]
PAGES = [path for path in FILES if path.suffix == ".md"]
OLD = {ROOT / "CHANGELOG.md", ROOT / "docs/log.md"}  # they tell of what was; links hold, names need not
# What a user makes, what a command writes, and what belongs to others.
EXAMPLES = {"keys.toml", "study.md", "deploy/kubernetes/YOURS", "relevance.commands"}
OF_OTHERS = {"X-Forwarded-For", "allow_rerank_failures", "group_by_length"}
CURRENT = [page for page in PAGES if page not in OLD]


def text_of(page):
    return page.read_text(encoding="utf-8")


def build():
    spec = importlib.util.spec_from_file_location("reference_build", ROOT / "docs/reference/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = build()
COMMANDS = dict(BUILD.commands())
KEYS = BUILD.recipe_keys()
BY_HAND = "\n".join(text_of(page) for page in CURRENT if page.parent.name != "reference")
SOURCES = {
    path.relative_to(ROOT).as_posix(): text_of(path)
    for path in FILES
    if path.suffix in (".py", ".yaml", ".toml") or path.name in ("Makefile", "Dockerfile")
}
WORDS = set(itertools.chain.from_iterable(re.findall(r"\w+", text) for text in SOURCES.values()))


@pytest.fixture(scope="module")
def app():
    return create_app(Settings(), {Task.QC: Path("qc"), Task.QI: Path("qi")})


@pytest.fixture(scope="module")
def routes(app):
    """Every method and path of both ports, names of parameters left out."""
    admin = create_admin_app(app.state.service, [])
    found = {(method, _plain(path)) for each in (app, admin) for method, path in _methods(each.openapi())}
    return found | {("GET", path) for path in ("/", "/docs", "/openapi.json")}


def _methods(page):
    return [(method.upper(), path) for path, methods in page["paths"].items() for method in methods]


def _plain(path):
    return re.sub(r"\{[^}]*\}", "{}", path)


@pytest.fixture(scope="module")
def metrics(app):
    """The names of all metrics, as a scrape shows them, without the suffixes of histograms."""
    families = [*app.state.service.metrics.registry.collect(), *GpuCollector(FakeNvml()).collect()]
    names = {f"{each.name}_total" if each.type == "counter" else each.name for each in families}
    return {name for name in names if name.startswith("relevance_")}


class FakeNvml:
    """A machine without a GPU."""

    NVMLError = OSError

    def nvmlDeviceGetCount(self):  # noqa: N802  the name of the library
        return 0


# What the code has is documented.


@pytest.mark.parametrize("name", BUILD.pages())
def test_reference_page_is_what_the_script_makes(name):
    assert text_of(ROOT / "docs/reference" / name) == BUILD.pages()[name], "run python docs/reference/build.py"


@pytest.mark.parametrize("name", BUILD.settings())
def test_setting_has_a_meaning(name):
    assert BUILD.settings()[name].description


@pytest.mark.parametrize("key", KEYS)
def test_recipe_key_has_a_meaning(key):
    assert BUILD.meaning(key, KEYS[key])


def test_meanings_written_beside_the_code_are_of_keys_that_lack_one():
    assert [key for key in BUILD.MEANINGS if key not in KEYS or KEYS[key].description] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_command_and_its_options_have_help(name):
    assert COMMANDS[name].help
    assert [each.name for each in COMMANDS[name].params if not each.help] == []


def test_every_metric_is_documented(metrics):
    assert sorted(name for name in metrics if not re.search(rf"\b{name}\b", BY_HAND)) == []


def test_every_route_is_documented(routes):
    named = {(method, _plain(path)) for method, path in _named_routes()}
    prefixed = {(method, path) for method, path in routes if path.startswith("/models/{}/")}  # of a table's routes
    assert sorted(routes - named - prefixed) == []
    assert "/models/{model}/" in BY_HAND


def _named_routes():
    """Return the method and path of every `GET /path` of the docs."""
    return re.findall(r"`(GET|POST|DELETE) (/[^`\s?]*)(?:\?[^`]*)?`", BY_HAND)


def test_every_header_is_documented():
    strings = [
        node.value
        for name, text in SOURCES.items()
        if name.startswith("service/") and name.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    ours = {text for text in strings if re.fullmatch(r"[Xx](-[A-Za-z]+)+|Server-Timing|Retry-After", text)}
    headers = ours - {"x-gzip"}
    assert "X-Request-Timeout-Ms" in headers
    assert sorted(name for name in headers if name.lower() not in BY_HAND.lower()) == []


def test_every_reason_of_a_problem_is_documented():
    reasons = {*REASONS, *(kind.reason for kind in ADMIN_KINDS.values())}
    assert sorted(reason for reason in reasons if f"`{reason}`" not in BY_HAND) == []


@pytest.mark.parametrize("name", STAGES)
def test_stage_of_the_pipeline_is_documented(name):
    assert re.search(rf"^\| {name} \|", text_of(ROOT / "docs/pipeline.md"), re.M)
    assert re.search(rf"\b{name}\b", text_of(ROOT / "docs/architecture.md"))


# What the docs name exists.


def test_every_route_that_is_named_exists(routes):
    assert sorted(each for each in _named_routes() if (each[0], _plain(each[1])) not in routes) == []


def test_every_header_that_is_named_exists():
    everything = "\n".join(SOURCES.values()).lower()
    named = set(re.findall(r"`(X(?:-[A-Z][A-Za-z]+)+)", BY_HAND))
    assert "X-Request-Id" in named
    assert sorted(name for name in named if name.lower() not in everything) == []


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_variables_and_metrics_that_a_page_names_exist(page, metrics):
    known = {*BUILD.settings(), "RELEVANCE_CACHE"}
    variables = set(re.findall(r"\bRELEVANCE_[A-Z][A-Z_]*[A-Z]\b", text_of(page)))
    assert variables <= known
    queries = "\n".join(text for name, text in SOURCES.items() if name.startswith("deploy/"))
    for name in set(re.findall(r"(?<![\w:])relevance_[a-z_]*[a-z]\b", text_of(page))):
        parts = re.sub(r"_(bucket|sum|count)$", "", name)
        assert metrics & {name, parts} or name in queries or name in WORDS, name


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_shows_exist(page):
    lines = re.sub(r"\\\n", " ", text_of(page)).splitlines()
    spoken = "\n".join([*re.findall(r"`(relevance [^`]+)`", text_of(page)), *_code_lines(lines)])
    for line in re.findall(r"(?:^|\s|/)relevance ([a-z][^|>#\n]*)", spoken):
        words = line.split()
        name = next((" ".join(["relevance", *words[:n]]) for n in (2, 1) if _command(words[:n])), None)
        group = any(each.startswith(f"relevance {words[0]} ") for each in COMMANDS)
        assert name or (group and len(words) == 1), line
        options = (
            {option for each in COMMANDS[name].params for option in (*each.opts, *each.secondary_opts)} if name else ()
        )
        asked = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert asked <= set(options), line


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_shows_are_taken_as_they_stand(page):
    """Every line of a code block has the arguments that its command needs, with values of the right type."""
    lines = re.sub(r"\\\n", " ", text_of(page)).splitlines()
    for line in _code_lines(lines):
        if "[" in line or "..." in line:  # how a command is used, not one to copy
            continue
        words = list(itertools.takewhile(lambda word: word not in SHELL, shlex.split(line, comments=True)))
        words = words[words.index("relevance") + 1 :]
        depth = 2 if _command(words[:2]) else 1
        command = COMMANDS[" ".join(["relevance", *words[:depth]])]
        try:
            command.make_context(" ".join(words[:depth]), words[depth:])
        except click.exceptions.Exit:  # --help
            pass
        except click.UsageError as error:
            pytest.fail(f"{line.strip()}: {error.format_message()}")


SHELL = {"|", ">", ">>", "<", "&", "&&", ";"}


def _command(words):
    return " ".join(["relevance", *words]) in COMMANDS


def _code_lines(lines):
    """Return the lines within fences, or indented by four, that start with the command."""
    inside, found = False, []
    for line in lines:
        inside = inside != line.lstrip().startswith("```")
        if (inside or line.startswith("    ")) and re.match(r"\s*(\$ )?([A-Z_]+=\S+ )*relevance [a-z]", line):
            found.append(line)
    return found


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_and_modules_that_a_page_names_exist(page):
    spoken = re.findall(r"`([^`\n]+)`", text_of(page)) + re.findall(r"python ([\w./-]+\.py)", text_of(page))
    names = {path.name for path in FILES}
    for name in itertools.chain.from_iterable(map(str.split, spoken)):
        name = name.rstrip(",;:/")
        if name in EXAMPLES:
            continue
        if re.fullmatch(rf"({'|'.join(TOP)})/[\w./*-]+", name):
            assert list(ROOT.glob(name)), name
        elif re.fullmatch(r"[\w-]+\.(py|toml|yaml|md)", name):
            assert name in names, name
        elif re.fullmatch(rf"({'|'.join(TOP[:4])})(\.\w+)+", name):
            assert _importable(name), name


def _importable(name):
    """Whether a dotted name is a module, or something defined in one."""
    base = ROOT / name.replace(".", "/")
    if base.is_dir() or base.with_suffix(".py").exists():
        return True
    above, _, last = name.rpartition(".")
    home = ROOT / above.replace(".", "/")
    return any(path.exists() and last in text_of(path) for path in (home.with_suffix(".py"), home / "__init__.py"))


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_code_type_occur_in_the_code(page, metrics):
    named = set(re.findall(r"`\[?([a-z][a-z0-9]*(?:_[a-z0-9]+)+)\]?`", text_of(page)))
    assert sorted(named - WORDS - OF_OTHERS - metrics) == []


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_dotted_recipe_keys_that_a_page_names_exist(page):
    sections = {key.partition(".")[0] for key in KEYS if "." in key} - {"data", "format", "head"}
    for key in re.findall(rf"(?:`|--set )((?:{'|'.join(sections)})\.[a-z0-9_.]+)", text_of(page)):
        assert key in KEYS or f"{key}[]" in KEYS or any(each.startswith(f"{key}.") for each in KEYS), key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_linked_file_and_heading_exists(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page)):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), target


def _anchors(page):
    """Return the anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    heads = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"^#+ (.*)$", text, re.M)]
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_every_page_is_linked_from_another():
    linked = set()
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)\s#]+)", text_of(page)):
            found = (page.parent / target).resolve()
            linked |= {found, *found.glob("*.md")} if found.is_dir() else {found}
    pages = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert sorted(str(page) for page in pages if page not in linked) == []


def test_every_alert_has_a_runbook():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules/alerts.yaml").read_text())
    alerts = {rule["alert"].lower() for group in rules["groups"] for rule in group["rules"]}
    assert alerts <= _anchors(ROOT / "docs/runbooks.md")


def test_panels_that_the_runbooks_name_exist():
    boards = [json.loads(text_of(path)) for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")]
    titles = {each["title"] for board in boards for each in (board, *board["panels"])}
    of_prometheus = {"Targets", "Service discovery"}
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", text_of(ROOT / "docs/runbooks.md")))
    assert named - titles == of_prometheus
