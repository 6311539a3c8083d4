"""Renders deploy/kubernetes with kustomize (that of kubectl) and checks resources against their schemas."""

import functools
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
API_VERSION = "1.34"  # the schemas to check against; preStop.sleep is in every version from 1.30 on
CRD_MODELS = {
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "ServiceMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
}


def read(path: Path) -> Any:
    """Return what a YAML file of one document holds."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@functools.cache
def _has_kustomize() -> bool:
    try:
        return subprocess.run(["kubectl", "kustomize", "--help"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def render(folder: Path) -> list[dict[str, Any]]:
    """Return the resources that a kustomization makes; skips the test where there is no kubectl."""
    if not _has_kustomize():
        pytest.skip("no kubectl on this machine: it brings kustomize")
    made = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert not made.stderr, made.stderr
    return [resource for resource in yaml.safe_load_all(made.stdout) if resource]


def compose(overlay: str, *components: str) -> list[dict[str, Any]]:
    """Return the resources of an overlay with components."""
    return yaml.safe_load(_composed(overlay, components))


@functools.cache
def _composed(overlay: str, components: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as place:
        up = os.path.relpath(KUBERNETES, place)
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{up}/overlays/{overlay}"],
            "components": [f"{up}/components/{name}" for name in components],
        }
        Path(place, "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return yaml.safe_dump(render(Path(place)))


def one(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only resource of a kind."""
    (found,) = (resource for resource in resources if resource["kind"] == kind)
    return found


def check_schema(resource: dict[str, Any]) -> None:
    """Check one resource against the schema of its API; raises what the checker raises. Skips where it is missing."""
    if resource["kind"] not in CRD_MODELS:
        validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
        validate.validate(resource, API_VERSION, strict=True)
        return
    module = pytest.importorskip(CRD_MODELS[resource["kind"]], reason="the models of this resource are not installed")
    model = getattr(module, resource["kind"]).model_validate(resource)
    kept = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert kept == resource, "the model of this resource does not know some of its fields"
