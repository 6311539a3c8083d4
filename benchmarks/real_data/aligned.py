"""An encoder whose languages are aligned, for the study run.py: `python benchmarks/real_data/aligned.py`.

Needs ../shared/data beside the project (see its README for provenance; never part of the project) and the `train`
extra. Takes the first six layers of the packaged encoder and some 69,000 pairs of a text and its translation: the
queries of both tasks' translation memories (TRANSLATED by a large language model), the last level of the categories of
Google's aligned taxonomy, and English fashion queries with German ones that people wrote. Queries of dev and of the
rows that choose, in every setting, are left out. Writes the encoder to build/real_data/aligned and its report beside
this file.
"""

import json
import logging
import sys
import time
from pathlib import Path

from rows import DATA, ROOT, category_units, machine, parts

from training.alignment.options import AlignmentOptions
from training.alignment.stage import align
from training.data.provenance import now, source_commit
from training.models.base.base_models import resolve_base_model
from training.translation.backends.memory_files import Unit, read_units

OUT, RESULT = ROOT / "build" / "real_data" / "aligned", Path(__file__).with_suffix(".json")
FILES = ("translation_memory/qi_queries.jsonl", "translation_memory/qc_queries.jsonl", "toloka_fashion/en_de.tsv")


def main() -> None:
    """Align the encoder and write the report."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if not DATA.is_dir():
        sys.exit(f"error: no {DATA}; expected the real data beside the project")
    units: list[Unit] = [unit for name in FILES for unit in read_units(DATA / name)[0]]
    given = [parts(setting, None, 0) for setting in ("qc", "qc-zero-shot", "qi")]
    held = [row for each in given for row in (*each.choosing, *each.report)]
    begun = time.process_time()
    report = align(
        resolve_base_model("packaged:multilingual-e5-small"),
        [*units, *category_units()],
        AlignmentOptions(layers=6),
        OUT,
        held,
        overwrite=True,
    )
    result = {
        "command": "python benchmarks/real_data/aligned.py",
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "cpu_seconds": round(time.process_time() - begun),
        "report": report.model_dump(mode="json"),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report.text())


if __name__ == "__main__":
    main()
