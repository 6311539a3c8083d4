"""Traces the system calls of a command with strace: whom it connects to, and what it writes below its home folder."""

import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_CALLS = "trace=connect,sendto,sendmsg,sendmmsg,open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2"
_ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')
_WRITES = re.compile(r"O_CREAT|O_WRONLY|O_RDWR| (?:mkdir|rename|creat)")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_RESOLVERS = ("/etc/resolv.conf", "/run/nscd", "/var/run/nscd", "/run/systemd/resolve")


@dataclass(frozen=True, slots=True)
class Trace:
    """What a command did: addresses beyond this machine, files that only a name look-up reads, writes below home."""

    addresses: tuple[str, ...]
    lookups: tuple[str, ...]
    written: tuple[str, ...]


def missing_tracer() -> str | None:
    """Return why nothing can be traced here, or None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace may trace nothing here: {done.stderr.strip()[-200:]}" if done.returncode else None


def traced(command: Sequence[str], log: Path) -> list[str]:
    """Return the command that runs `command` and its children under strace and writes their calls to `log`.

    The command is the child, and strace ends after it (-D): a signal reaches the command, and its exit status counts.
    """
    quiet = ["-qq", "-s", "4096", "-e", _CALLS, "-e", "signal=none"]
    return ["strace", "-D", "-f", "--seccomp-bpf", *quiet, "-o", str(log), *command]


def read_trace(log: Path, home: Path) -> Trace:
    """Return what the calls of a log show."""
    addresses, lookups, written = [], [], []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        addresses += [f"{host}:{port}" for port, host in _ADDRESS.findall(line) if not _is_here(host)]
        paths = _PATH.findall(line)
        lookups += [path for path in paths if path.startswith(_RESOLVERS)]
        writes = (
            "O_CREAT" in line or "O_WRONLY" in line or "O_RDWR" in line or re.search(r" (mkdir|rename|creat)", line)
        )
        written += [path for path in paths if writes and _is_below(path, home)]
    return Trace(tuple(addresses), tuple(lookups), tuple(written))


def _is_here(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return address.is_loopback or address.is_unspecified


def _is_below(path: str, home: Path) -> bool:
    return Path(path).is_absolute() and Path(path).is_relative_to(home)


def files_below(home: Path) -> Iterator[str]:
    """Yield the files that are left below a home folder."""
    return (str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
