"""Writes the bill of materials of the service (CycloneDX 1.6): `python deploy/sbom.py OUT.json [--extras serve-gpu]`.

It reads the packages of the environment that it runs in, as far as the project needs them with the extras. Run it where
the service is installed, such as in its image. Equal environments give equal files.
"""

import argparse
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "query-relevance"


def needed(package: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield the requirements of an installed package with extras. Raises PackageNotFoundError."""
    for requirement in map(Requirement, metadata.requires(package) or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield requirement


def closure(extras: frozenset[str]) -> dict[str, set[str]]:
    """Return all packages that the project needs with extras, each with its direct requirements."""
    found: dict[str, set[str]] = {PROJECT: set()}
    waiting, seen = [(PROJECT, extras)], set()
    while waiting:
        package, asked = waiting.pop()
        if (package, asked) in seen:
            continue
        seen.add((package, asked))
        for requirement in needed(package, asked):
            name = canonicalize_name(requirement.name)
            if name != package:
                found[package].add(name)
            found.setdefault(name, set())
            waiting.append((name, frozenset(requirement.extras)))
    return found


def component(package: str) -> dict[str, Any]:
    """Return the CycloneDX component of a package."""
    about = metadata.distribution(package)
    reference = f"pkg:pypi/{package}@{about.version}"
    entry: dict[str, Any] = {"type": "library", "bom-ref": reference, "name": package, "version": about.version}
    entry["purl"] = reference
    if (licence := about.metadata["License-Expression"]) or (licence := about.metadata["License"]):
        entry["licenses"] = [{"license": {"name": licence.splitlines()[0][:200]}}]
    return entry


def bill(extras: frozenset[str]) -> dict[str, Any]:
    """Return the bill of materials of the project with extras."""
    packages = closure(extras)
    parts = {name: component(name) for name in sorted(packages)}
    subject = parts.pop(PROJECT) | {"type": "application"}
    dependencies = [
        {
            "ref": (parts | {PROJECT: subject})[name]["bom-ref"],
            "dependsOn": [parts[each]["bom-ref"] for each in sorted(packages[name]) if each in parts],
        }
        for name in sorted(packages)
    ]
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject},
        "components": list(parts.values()),
        "dependencies": dependencies,
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "serialNumber": f"urn:uuid:{serial}",
    } | content


def main(arguments: Sequence[str]) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--extras", default="serve,tracing", help="extras of the image, such as serve-gpu,tracing")
    options = parser.parse_args(arguments)
    try:
        found = bill(frozenset(options.extras.split(",")))
    except metadata.PackageNotFoundError as error:
        raise SystemExit(
            f"error: package {error.name!r} is not installed here; expected all of {options.extras}"
        ) from None
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out}: {len(found['components'])} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
