"""Which alert fires for which fault: `python benchmarks/operate/alerts.py OUT.json`.

Runs tests/e2e/test_observability.py, a real Prometheus with a healthy service and broken ones. Writes which alerts
fired and how many series each query of the dashboards returned. Writes nothing if the test fails.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from relevance.model.cores import processor
from training.data.provenance import now, source_commit

TEST = "tests/e2e/test_observability.py"


def main(arguments: Sequence[str]) -> None:
    """Run the test and write JSON."""
    (out,) = arguments
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "found.json"
        command = [sys.executable, "-m", "pytest", "-q", TEST]
        done = subprocess.run(command, env=os.environ | {"ALERTS_JSON": str(raw)}, cwd=Path(__file__).parents[2])
        if done.returncode or not raw.exists():
            raise SystemExit("error: the test did not pass; nothing written")
        found = json.loads(raw.read_text(encoding="utf-8"))
    version = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True).stdout
    result = {
        "command": f"python benchmarks/operate/alerts.py {out}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": {"cpus": os.cpu_count(), "processor": processor()},
        "prometheus": version.split()[2],
        **found,
    }
    Path(out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
