"""From a checkpoint to a bundle of the kind `safetensors`: convert, compare with the checkpoint, pack. Whole or not.

vLLM was never run here: it needs a GPU build. What is checked is that transformers loads the folder and gives the
checkpoint's logits, and that its template makes the prompt. Whoever serves the folder is checked by its golden pairs.
"""

import json
import logging
import shlex
import shutil
from importlib.metadata import version
from pathlib import Path

from export.checkpoint import Checkpoint
from export.verifying import Limits, Logits, every_language, label_findings, parity
from export.vllm.classifier import DTYPES, INPUT_NAMES, as_classifier, folder_logits
from relevance.errors import ConfigError
from relevance.model.bundle import Bundle, Golden, Manifest, Precision, write_bundle_files
from relevance.model.card import DEV_PAIRS_FILE, TOKENIZER_FILE, ModelCard
from relevance.storage.files import whole_folder
from relevance.storage.locks import locks_output
from relevance.storage.outputs import check_outputs
from relevance.text.prompt import Prompt

log = logging.getLogger(__name__)

TOKENIZER_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json")
TEMPLATE_FILE, README_FILE = "score_template.jinja", "README.md"
LIMITS: dict[Precision, Limits] = {  # in 16 bits all sums are rounded, not the weights alone
    "fp32": Limits(max_logit_difference=1e-3, max_f1_difference=0.005, golden_tolerance=0.02),
    "fp16": Limits(max_logit_difference=0.1, max_f1_difference=0.01, golden_tolerance=0.2),
    "bf16": Limits(max_logit_difference=0.5, max_f1_difference=0.02, golden_tolerance=0.5),
}
README = """# {name}

A model for query relevance ({task}), as a classifier of one output that transformers and vLLM load. `relevance export`
made it. Serve it, with this folder as FOLDER:

```
{serve}
```

Score a file by it, with calibration and thresholds of `manifest.json`:

```
relevance score FOLDER rows.jsonl scored.jsonl --endpoint http://127.0.0.1:8000
```

The command prepares and tokenises the texts itself and sends token ids to `/classify`. It needs all files of this
folder but the weights, and compares the server with `golden.jsonl` first. Clients of vLLM's own `/score` and `/rerank`
get vLLM's tokenisation, and scores without our calibration. At most {max_length} tokens are read of a pair.
"""


@locks_output("out")
def export_safetensors(
    checkpoint: Path, out: Path, precision: Precision, limits: Limits, *, overwrite: bool
) -> Manifest:
    """Write the bundle folder `out` and return its manifest.

    Raises ConfigError where `out` exists and may not be replaced, or for int8, CheckpointError where the checkpoint is
    incomplete or no classifier can be made of it, ParityError where the folder's logits or F1 differ from the
    checkpoint's by more than `limits` allow.
    """
    if precision not in DTYPES:
        raise ConfigError(f"--precision {precision}: expected one of {', '.join(DTYPES)} with --kind safetensors")
    check_outputs([out], [checkpoint], overwrite=overwrite)
    source = Checkpoint.open(checkpoint)
    golden, inputs = source.dev_pairs(), source.inputs
    expected = source.logits(inputs.encode([g.pair for g in golden]))
    with whole_folder(out) as folder:
        card, bias = _write_model(source, folder, precision)
        draft = Manifest.model_construct(
            **dict(card),
            kind="safetensors",
            precision=precision,
            opset=0,
            input_names=INPUT_NAMES,
            output_name="logits",
            golden_tolerance=limits.golden_tolerance,
            tools={name: version(name) for name in ("torch", "transformers", "safetensors")},
            sha256={},
        )
        source.copy_reports(folder)
        del source  # its weights are in memory no more when they are read again
        logits = folder_logits(folder, draft, inputs)([g.pair for g in golden])
        manifest = _measured(draft, golden, (expected - bias, logits), limits, checkpoint)
        kept = [golden[i].model_copy(update={"logit": float(logits[i])}) for i in every_language(golden)]
        sealed = write_bundle_files(folder, manifest, kept)
        Bundle.open(folder, "safetensors")
    for finding in sealed.findings:
        log.warning("%s: %s", out, finding)
    return sealed


def serve_command(card: ModelCard, precision: Precision, folder: str, *, template: bool) -> str:
    """Return the command that serves a folder; vLLM's own routes for pairs need the `template` of a prompt."""
    dtype = str(DTYPES[precision]).removeprefix("torch.")
    words = ["vllm", "serve", folder, "--runner", "pooling", "--served-model-name", card.name]
    words += ["--max-model-len", str(card.max_length), "--dtype", dtype]
    return shlex.join([*words, *(["--chat-template", f"{folder}/{TEMPLATE_FILE}"] if template else [])])


def score_template(prompt: Prompt) -> str:
    """Return a Jinja template that makes the prompt of messages of the roles `query` and `document`, as vLLM has it."""
    before, between, after = (f"{{{{ {json.dumps(part, ensure_ascii=False)} }}}}" for part in prompt.parts)
    query, document = (
        f'{{{{ messages | selectattr("role", "eq", "{role}") | map(attribute="content") | first }}}}'
        for role in ("query", "document")
    )
    return f"{before}{query}{between}{document}{after}"


def _write_model(source: Checkpoint, folder: Path, precision: Precision) -> tuple[ModelCard, float]:
    """Write weights, configuration, tokenizer, template and README; return the card of the logits, and their bias."""
    model, bias = as_classifier(source)
    model.to(DTYPES[precision]).save_pretrained(folder, safe_serialization=True)
    for name in TOKENIZER_FILES:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)
    calibration = source.card.calibration
    moved = calibration.model_copy(update={"offset": calibration.offset + calibration.scale * bias})
    card = source.card.model_copy(update={"calibration": moved})
    if card.prompt is not None:
        (folder / TEMPLATE_FILE).write_text(score_template(card.prompt), encoding="utf-8")
    serve = serve_command(card, precision, "FOLDER", template=card.prompt is not None)
    readme = README.format(name=card.name, task=card.task.value, serve=serve, max_length=card.max_length)
    (folder / README_FILE).write_text(readme, encoding="utf-8")
    return card, bias


def _measured(
    draft: Manifest, golden: list[Golden], logits: tuple[Logits, Logits], limits: Limits, checkpoint: Path
) -> Manifest:
    """Return the manifest with its parity, of the checkpoint's logits [N] and the folder's, and with its findings."""
    found = label_findings(draft, golden, logits[1])
    findings = (*draft.findings, *(f"exported, dev pairs of {DEV_PAIRS_FILE}, {each}" for each in found))
    same = parity(checkpoint, draft, golden, logits, limits)
    return Manifest.model_validate(dict(draft) | {"parity": same, "findings": findings})
