"""The lock files: what the images install fits pyproject.toml, is whole, and is pinned by hash."""

import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

LOCKS = {
    "service-cpu": ("serve", "tracing"),
    "service-gpu": ("serve-gpu", "tracing"),
    "training": ("train", "serve", "lora"),
}
ENVIRONMENT = {"python_version": "3.11", "python_full_version": "3.11.0", "sys_platform": "linux", "extra": ""}
ENVIRONMENT |= {"platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
ENVIRONMENT |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}


def read_lock(name):
    """Return version and hashes of each package of a lock file."""
    found = {}
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    for entry in text.replace("\\\n", " ").splitlines():
        if entry and not entry.startswith("#"):
            pin, *hashes = entry.split()
            package, version = pin.split("==")
            found[canonicalize_name(package)] = (version, hashes)
    return found


def wanted(extra):
    """Return the project's own requirements with an extra, those of extras that it names included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [Requirement(each) for each in project["optional-dependencies"][extra]]
    own = [each for each in requirements if each.name == project["name"]]
    inner = [part for each in own for name in each.extras for part in wanted(name)]
    return [*map(Requirement, project["dependencies"]), *inner, *(each for each in requirements if each not in own)]


@pytest.mark.parametrize(("name", "extra"), [(name, extra) for name, extras in LOCKS.items() for extra in extras])
def test_the_lock_fits_what_the_project_asks_for(name, extra):
    lock = read_lock(name)
    for requirement in wanted(extra):
        version, _ = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} has {version}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_by_hash_and_no_host_is_named(name):
    for package, (_, hashes) in read_lock(name).items():
        assert hashes, package
        assert all(len(each.removeprefix("--hash=sha256:")) == 64 for each in hashes), package
    assert "://" not in (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_holds_what_its_packages_need(name):
    lock, checked = read_lock(name), 0
    for package, (version, _) in lock.items():
        try:
            installed = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue
        if installed.version != version:
            continue
        for requirement in map(Requirement, installed.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate(ENVIRONMENT):
                found, _ = lock[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(found, prereleases=True), f"{package}: {requirement}, {found}"
                checked += 1
    assert checked > 20


def test_no_training_packages_are_in_the_service():
    assert not {"torch", "transformers", "optimum", "onnx", "pyarrow"} & read_lock("service-cpu").keys()
