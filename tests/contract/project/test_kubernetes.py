"""deploy/kubernetes: every rendering is valid, and says what the service itself says of ports, settings and metrics."""

import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.capacity import parser
from deploy.kubernetes.rules import TARGET, manifest
from relevance.tasks import Task
from service.api.app import create_app
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.manifests import KUBERNETES, check_schema, compose, one, read, render

EVERYTHING = ("monitoring", "bundle-url", "api-keys", "admin")
VARIANTS = [
    ("cpu",),
    ("gpu",),
    ("cpu", "bundle-image"),
    ("cpu", *EVERYTHING, "hpa"),
    ("gpu", *EVERYTHING, "keda"),
]
PATHS = create_app(Settings(), {}).state.policies.labels
MADE_BEFORE = {"relevance-bundles", "relevance-api-keys"}  # by deploy/kubernetes/bundles and by the operator
SUFFIXES = re.compile(r"(_bucket|_sum|_count)$")


@pytest.fixture(params=VARIANTS, ids="+".join)
def resources(request):
    return compose(*request.param)


def pod(resources):
    return one(resources, "Deployment")["spec"]["template"]["spec"]


def seconds(value):
    assert isinstance(value, int)
    return value


def exported_names():
    """Every metric name of a service process as Prometheus stores it, without the suffixes of histograms."""
    registry: CollectorRegistry = Metrics([Task.QC], PATHS, PATHS, PATHS).registry
    return {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}


def test_every_resource_fits_its_schema(resources):
    for resource in resources:
        check_schema(resource)


@pytest.mark.parametrize("folder", ["example", "bundles"])
def test_what_is_applied_by_itself_fits_its_schemas(folder):
    for resource in render(KUBERNETES / folder):
        check_schema(resource)


@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject", "ServiceMonitor", "PrometheusRule"])
def test_the_check_of_schemas_finds_an_unknown_field(kind):
    resource = one(compose("cpu", "keda", "monitoring"), kind)
    check_schema(resource)
    resource["spec"]["nonsense"] = 1
    with pytest.raises(Exception, match=r"nonsense|does not know"):
        check_schema(resource)


def test_names_that_resources_refer_to_are_there(resources):
    there = {(resource["kind"], resource["metadata"]["name"]) for resource in resources}
    named = {("ServiceAccount", pod(resources)["serviceAccountName"])}
    for volume in pod(resources)["volumes"]:
        sources = {"configMap": ("ConfigMap", "name"), "secret": ("Secret", "secretName")}
        sources |= {"persistentVolumeClaim": ("PersistentVolumeClaim", "claimName")}
        named |= {(kind, volume[key][field]) for key, (kind, field) in sources.items() if key in volume}
    assert {name for name in named - there if name[1] not in MADE_BEFORE} == set()
    assert {resource["metadata"].get("namespace", "relevance") for resource in resources} == {"relevance"}


def test_every_volume_has_one_source_and_every_mount_its_volume(resources):
    volumes = pod(resources)["volumes"]
    assert all(len(volume) == 2 for volume in volumes), volumes
    containers = [*pod(resources)["containers"], *pod(resources).get("initContainers", [])]
    mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in volumes}


def test_selectors_select_the_pods(resources):
    labels = one(resources, "Deployment")["spec"]["template"]["metadata"]["labels"]
    service = one(resources, "Service")
    selectors = [service["spec"]["selector"]]
    fields = {"Deployment": "selector", "PodDisruptionBudget": "selector", "NetworkPolicy": "podSelector"}
    for kind, field in fields.items():
        selectors += [r["spec"][field]["matchLabels"] for r in resources if r["kind"] == kind]
    selectors += [each["labelSelector"]["matchLabels"] for each in pod(resources)["topologySpreadConstraints"]]
    for selector in selectors:
        assert selector.items() <= labels.items()
    for monitor in (r for r in resources if r["kind"] == "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["path"] in PATHS


def test_ports_are_those_of_the_settings(resources):
    (container,) = pod(resources)["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": Settings.model_fields["port"].default}]
    for policy in (r for r in resources if r["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert [port["port"] for port in rule["ports"]] == ["http"], "no other port may be open"


def test_variables_are_settings_and_give_valid_ones(resources, monkeypatch):
    (container,) = pod(resources)["containers"]
    for variable in container["env"]:
        assert variable["name"].removeprefix("RELEVANCE_").lower() in Settings.model_fields
        monkeypatch.setenv(variable["name"], variable["value"])
    Settings.build()
    assert pod(resources)["enableServiceLinks"] is False


def test_the_grace_period_is_longer_than_preparing_draining_and_finishing(resources):
    (container,) = pod(resources)["containers"]
    settings = {variable["name"]: variable["value"] for variable in container["env"]}
    drain, finish = float(settings["RELEVANCE_DRAIN_SECONDS"]), float(settings["RELEVANCE_FINISH_SECONDS"])
    before = seconds(container["lifecycle"]["preStop"]["sleep"]["seconds"])
    assert seconds(pod(resources)["terminationGracePeriodSeconds"]) >= before + drain + finish + 10


def test_probes_ask_routes_that_there_are(resources):
    (container,) = pod(resources)["containers"]
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {get["port"] for get in asked.values()} == {"http"}
    assert {"/healthz", "/readyz"} <= create_app(Settings(), {}).openapi()["paths"].keys()


def test_containers_keep_to_the_restricted_standard(resources):
    spec = pod(resources)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert {"memory"} <= container["resources"]["limits"].keys()


def test_only_the_gpu_overlay_asks_for_a_gpu():
    for overlay, limit in (("cpu", None), ("gpu", 1)):
        (container,) = pod(compose(overlay))["containers"]
        assert container["resources"]["limits"].get("nvidia.com/gpu") == limit
        assert container["image"] == f"relevance:{overlay}"


@pytest.mark.parametrize("scaler", ["hpa", "keda"])
def test_an_autoscaler_owns_the_number_of_pods(scaler):
    deployment = one(compose("cpu", scaler), "Deployment")
    assert "replicas" not in deployment["spec"]


def scaling_queries():
    """The queries of both autoscalers, the placeholders of the adapter filled in."""
    for rule in read(KUBERNETES / "components/hpa/adapter-values.yaml")["rules"]["custom"]:
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
        query = query.replace("<<.LabelMatchers>>", 'namespace="relevance"')
        assert "<<" not in query
        yield rule["seriesQuery"]
        yield query
    for trigger in read(KUBERNETES / "components/keda/scaledobject.yaml")["spec"]["triggers"]:
        yield trigger["metadata"]["query"]


def test_autoscalers_ask_for_metrics_that_there_are():
    names = exported_names()
    for query in scaling_queries():
        asked = set(re.findall(r"relevance_\w+(?=\{)", query))
        assert asked
        assert {SUFFIXES.sub("", name) for name in asked} <= names


def test_the_hpa_asks_for_what_the_adapter_makes():
    made = [r["name"]["as"] for r in read(KUBERNETES / "components/hpa/adapter-values.yaml")["rules"]["custom"]]
    metrics = read(KUBERNETES / "components/hpa/hpa.yaml")["spec"]["metrics"]
    assert [metric["pods"]["metric"]["name"] for metric in metrics] == made


def test_both_autoscalers_and_the_capacity_page_aim_at_the_same():
    metrics = read(KUBERNETES / "components/hpa/hpa.yaml")["spec"]["metrics"]
    targets = [int(m["pods"]["target"]["averageValue"].removesuffix("m")) / 1000 for m in metrics]
    triggers = read(KUBERNETES / "components/keda/scaledobject.yaml")["spec"]["triggers"]
    assert [float(trigger["metadata"]["threshold"]) for trigger in triggers] == targets
    assert parser().get_default("utilisation") == targets[1]


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on this machine: Debian's prometheus brings it")
def test_queries_of_the_autoscalers_are_promql(tmp_path):
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(scaling_queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_prometheus_rule_is_that_of_the_rule_files():
    assert read(TARGET) == manifest(), "run python deploy/kubernetes/rules.py"
    assert manifest()["spec"]["groups"]


def test_runbook_says_when_kubernetes_restarts_a_pod(resources):
    probe = pod(resources)["containers"][0]["livenessProbe"]
    said = f"after a minute ({probe['failureThreshold']} probes, {probe['periodSeconds']} s apart)"
    assert probe["httpGet"]["path"] == "/healthz"
    assert said in (KUBERNETES.parents[1] / "docs" / "runbooks.md").read_text()
