"""Fixtures of the tests of several request shapes."""

import pytest

from relevance.model.bundle import Bundle
from relevance.tasks import Task
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A tiny bundle of each task, by the task."""
    folder = tmp_path_factory.mktemp("bundles")
    tiny_bundle(folder / "qc", Task.QC, seed=1)
    tiny_bundle(folder / "qi", Task.QI, seed=2)
    return {"qc": folder / "qc", "qi": folder / "qi"}


@pytest.fixture(scope="module")
def versions(bundles):
    """The version of each bundle, by the task."""
    return {task: Bundle.open(folder).manifest.version for task, folder in bundles.items()}
