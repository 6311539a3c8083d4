"""Turns off the telemetry of packages. Runs on `import relevance`, before any of them is imported."""

import os
import sys
from collections.abc import MutableMapping

# onnxruntime 1.31 and later keeps a device id and a database of events below the home folder and sends the events to
# Microsoft; the hub client of transformers and optimum names itself in each request. Both read these when imported.
# Ray sends statistics of its use to its makers.
TELEMETRY_OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}


def turn_off_telemetry(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables that turn telemetry off. A value that the user set stays."""
    for name, value in TELEMETRY_OFF.items():
        environment.setdefault(name, value)


# openvino's `__init__` imports its model converter, which then sends an event to Google Analytics through this package
# and writes below the home folder. No variable turns that off. Without the package the converter has a stand-in that
# sends nothing.
TELEMETRY_PACKAGES = ("openvino_telemetry",)


def block_telemetry_packages() -> None:
    """Make packages that only send telemetry look as if they were not installed. To be called before `openvino` is."""
    for name in TELEMETRY_PACKAGES:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as the import system documents it
