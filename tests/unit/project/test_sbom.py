"""The bill of materials: what the service needs and no more, as the lock file has it."""

import json
import subprocess
import sys
from importlib import metadata

from packaging.utils import canonicalize_name

from tests import ROOT


def test_the_bill_holds_the_packages_of_the_lock_file(tmp_path):
    out = tmp_path / "sbom.json"
    for _ in range(2):
        subprocess.run([sys.executable, "deploy/sbom.py", out], cwd=ROOT, check=True, capture_output=True)
        first = out.read_bytes()
    assert out.read_bytes() == first
    bill = json.loads(first)
    lock = (ROOT / "requirements" / "service-cpu.lock").read_text(encoding="utf-8")
    locked = {canonicalize_name(line.split("==")[0]) for line in lock.splitlines() if "==" in line}
    found = {part["name"]: part["version"] for part in bill["components"]}
    assert found.keys() == locked
    assert all(metadata.version(name) == version for name, version in found.items())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    references = {part["bom-ref"] for part in [*bill["components"], bill["metadata"]["component"]]}
    assert {entry["ref"] for entry in bill["dependencies"]} == references
    assert all(set(entry["dependsOn"]) <= references for entry in bill["dependencies"])
