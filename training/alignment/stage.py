"""Cross-lingual alignment: from a base model and translation memories to a base model of the same kind.

Upper layers of a multilingual encoder bring languages together; an encoder of its first layers alone lacks them. So it
is trained until translations have nearly the vectors of their sources. It needs no labels. Where rows are in one
language alone, a kernel head over it ranks the others better; fine-tuned models gained nothing (docs/quality.md).
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from relevance.errors import ConfigError
from relevance.storage.files import whole_folder
from relevance.storage.locks import output_lock
from relevance.storage.outputs import check_outputs
from relevance.tasks import LabeledPair
from training.alignment.options import AlignmentOptions
from training.alignment.pairs import parts
from training.alignment.report import AlignmentReport
from training.alignment.tuner import Aligner
from training.data.groups import held_keys
from training.data.provenance import fingerprint
from training.fitting.loop.precision import resolve_precision, training_device
from training.fitting.loop.snapshots import open_work
from training.fitting.servable import check_family, positions
from training.models.base.base_models import (
    BaseModel,
    load_base_config,
    load_base_encoder,
    load_base_tokenizer,
    load_padding_tokenizer,
    pad_id_of,
    resolve_base_model,
)
from training.models.base.packaged import PROVENANCE_FILE
from training.models.base.prepared import EncoderOptions, prepare_encoder
from training.models.base.quiet import quiet_bars
from training.sources import code_key
from training.translation.backends.memory_files import Unit


def align(
    base: BaseModel,
    units: Iterable[Unit],
    options: AlignmentOptions,
    out: Path,
    held_out: Sequence[LabeledPair] = (),
    *,
    overwrite: bool = False,
) -> AlignmentReport:
    """Write `base`, cut and aligned, as an ordinary transformers folder at `out`, whole or not at all.

    Pairs of which a text is a query of `held_out` are left out. An interrupted run of the same job continues.
    ConfigError where `out` exists and may not be replaced, or the options or the architecture do not fit; InputError
    for too few pairs; MachineError where another run is writing `out` or the disk is full.
    """
    with output_lock(out):
        check_outputs([out], overwrite=overwrite)
        _check(base, options)
        found = parts(units, options, held_keys(held_out))
        texts = [[(each.source, each.text) for each in some] for some in (found.train, found.measured)]
        work = out.parent / f".{out.name}.work"
        mark = {
            "options": options.model_dump_json(),
            "base model": base.revision,
            "pairs": fingerprint(*map(repr, texts)),
            "precision": resolve_precision("auto", training_device()),
            "program": code_key("training.alignment.stage:align"),
        }
        open_work(work, mark)
        if not (work / "encoder").exists():
            prepare_encoder(base, work / "encoder", EncoderOptions(options.layers))
        cut = resolve_base_model(str(work / "encoder"))
        encoder, absent = load_base_encoder(cut)
        aligner = Aligner(encoder, load_padding_tokenizer(cut), options, work)
        aligner.run(found.train)
        before, after = aligner.found_first(found.measured)
        report = AlignmentReport(
            pairs=dict(sorted(Counter(each.language for each in found.train).items())),
            held_out=found.held_out,
            not_drawn=found.not_drawn,
            measured=len(found.measured),
            sources=len({each.source for each in found.measured}),
            before=before,
            after=after,
        )
        with whole_folder(out) as folder, quiet_bars():
            shutil.copytree(work / "encoder", folder, dirs_exist_ok=True)
            kept = {key: value for key, value in encoder.state_dict().items() if key not in absent}
            encoder.save_pretrained(folder, state_dict=kept, safe_serialization=True)
            provenance = folder / PROVENANCE_FILE
            provenance.write_text(_noted(provenance, options, report), encoding="utf-8")
        shutil.rmtree(work)
    return report


def _check(base: BaseModel, options: AlignmentOptions) -> None:
    """Raise ConfigError where texts can be longer than the model reads, or no model of its architecture is served."""
    check_family(base)
    most = positions(load_base_config(base).get_text_config(), pad_id_of(load_base_tokenizer(base), base.path))
    if most is not None and most < options.max_length:
        raise ConfigError(f"max_length {options.max_length}: the model has {most} positions")


def _noted(provenance: Path, options: AlignmentOptions, report: AlignmentReport) -> str:
    """Return the provenance of the encoder that was aligned, with how it was."""
    content = json.loads(provenance.read_bytes())
    content["base"]["name"] += " (aligned)"
    content["aligned"] = {"options": options.model_dump(mode="json"), "report": report.model_dump(mode="json")}
    return json.dumps(content, indent=2) + "\n"
