"""Reads the Dockerfile, and carries out a target's instructions without a container engine.

The stand-in for an image is a temporary layer over this machine's root (overlayfs, in a mount namespace of its own),
with a fresh virtual environment in the place of the base image's Python. All stages share it. It needs root and leaves
nothing behind.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests import ROOT

BASE = "/base"  # stands in for the Python of the base image


@dataclass
class Stage:
    """One stage of a Dockerfile: what it starts from, and its instructions as (name, arguments)."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def stages(text: str) -> dict[str, Stage]:
    """Return the named stages in order."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found: dict[str, Stage] = {}
    for line in filter(None, lines.replace("\\\n", " ").splitlines()):
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            current = found[stage] = Stage(base)
        else:
            current.instructions.append((name, " ".join(rest.split())))
    return found


@cache
def dockerfile() -> dict[str, Stage]:
    """Return the stages of the project's Dockerfile."""
    return stages((ROOT / "Dockerfile").read_text())


def lineage(target: str) -> list[str]:
    """Return the stages that a target starts from, the first one first, and itself."""
    names = [target]
    while (base := dockerfile()[names[0]].base) in dockerfile():
        names.insert(0, base)
    return names


def setting(target: str, instruction: str) -> str:
    """Return the arguments of the last such instruction that is in force for a target."""
    return [a for name in lineage(target) for i, a in dockerfile()[name].instructions if i == instruction][-1]


def environment(target: str) -> dict[str, str]:
    """Return the variables that a target sets, `$PATH` in them replaced by that of the base."""
    found = {}
    for name in lineage(target):
        for instruction, arguments in dockerfile()[name].instructions:
            if instruction == "ENV":
                found |= dict(word.split("=", 1) for word in shlex.split(arguments))
    return {name: value.replace("$PATH", f"{BASE}/bin:/usr/sbin:/usr/bin:/sbin:/bin") for name, value in found.items()}


def commands(target: str, done: set[str] | None = None) -> Iterator[str]:
    """Yield shell commands that build a target from the context at /context."""
    done = set() if done is None else done
    for name in lineage(target):
        if name in done:
            continue
        done.add(name)
        yield "cd /"
        for instruction, arguments in dockerfile()[name].instructions:
            if source := re.match(r"--from=(\S+) ", arguments):
                yield from commands(source[1], done)
            yield from _command(instruction, arguments)


def _command(instruction: str, arguments: str) -> Iterator[str]:
    if instruction == "RUN":
        yield arguments
    elif instruction == "WORKDIR":
        yield f"mkdir -p {arguments} && cd {arguments}"
    elif instruction == "COPY":
        *sources, goal = [word for word in arguments.split() if not word.startswith("--")]
        for source in sources:
            path = source if arguments.startswith("--from=") else f"/context/{source}"
            if path != goal:  # all stages share one tree
                yield f"if [ -d {path} ]; then {_copy_tree(path, goal)}; else {_copy_file(path, goal)}; fi"


def _copy_tree(path: str, goal: str) -> str:
    return f"mkdir -p {goal}; cp -a {path}/. {goal}/"


def _copy_file(path: str, goal: str) -> str:
    return f"mkdir -p {goal}; cp {path} {goal}" if goal.endswith("/") else f"cp {path} {goal}"


def can_mount() -> bool:
    """Tell whether this process may make mount namespaces and overlays."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    probe = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r && " + _overlay("/mnt")
    return subprocess.run(["unshare", "-m", "sh", "-c", probe], capture_output=True).returncode == 0


def _overlay(place: str) -> str:
    return f"mount -t overlay overlay -o lowerdir=/,upperdir={place}/u,workdir={place}/w {place}/r"


def script(target: str, bundle: Path, command: list[str], context: Path = ROOT) -> str:
    """Return a script that builds a target, makes its root read-only and runs a command as its user without any rights.

    /tmp is a small tmpfs and `bundle` is at /bundles/qc, as in deploy/compose.yaml.
    """
    paths = f"env -u PYTHONPATH PATH={environment('build')['PATH']} PIP_ROOT_USER_ACTION=ignore"
    python = Path(sys._base_executable).resolve()
    opened = shlex.join(["chmod", "a+x", *map(str, list(python.parents)[:-1])])  # it may lie in root's home
    build = " && ".join([opened, f"{python} -m venv {BASE}", *commands(target)])
    user, group = setting(target, "USER").split(":")
    rights = f"setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment(target).items())
    return "\n".join(
        [
            "set -e",
            "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r",
            _overlay("/mnt"),
            "mkdir -p /mnt/r/context /mnt/r/bundles/qc",
            f"mount --bind {context} /mnt/r/context && mount --bind {bundle} /mnt/r/bundles/qc",
            "mount -t proc proc /mnt/r/proc && mount --bind /dev /mnt/r/dev",
            f"chroot /mnt/r {paths} sh -ec {shlex.quote(build)} >&2",
            "umount /mnt/r/context && mount -o remount,ro /mnt/r && mount -o remount,ro,bind /mnt/r/bundles/qc",
            "mount -t tmpfs -o size=64m,mode=1777 tmpfs /mnt/r/tmp",
            f"exec chroot /mnt/r env -i {variables} {rights} {shlex.join(command)}",
        ]
    )
