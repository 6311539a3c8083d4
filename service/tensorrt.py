"""How onnxruntime is told to run a model by TensorRT: the shapes to build for, and where to keep what was built.

After onnxruntime's page on its TensorRT provider. A shape outside of the profile would have the engine built anew while
callers wait, so the profile covers every batch that the service can form. There is one: of several, onnxruntime runs
the first only.
"""

import mmap
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from relevance.bundle import MODEL_FILE, Bundle, Manifest
from relevance.errors import BundleError, MachineError
from service.batching import Shape

TENSORRT = "TensorrtExecutionProvider"
ENGINES, TIMINGS = "trt_engine_cache_path", "trt_timing_cache_path"
OWN_OPERATORS = b"com.microsoft"  # the domain of onnxruntime's own; stands in the file where one is used
TYPICAL_TOKENS = 32  # of a pair: kernels are chosen for full batches of about that width
DIGITS = 16  # of a model's sha256


def tensorrt_options(manifest: Manifest, shape: Shape, cache: Path) -> dict[str, str]:
    """Return the provider's options for the batches of a shape, all that is built being kept below `cache`.

    An engine holds the weights, but is found again by the names in the graph: a model that was trained anew would get
    the old one's. So each model file, and each version of onnxruntime, has a folder of its own. How fast which kernel
    is (the timing cache) holds for all models.
    """
    lengths = shape.within(manifest.max_length).lengths or (manifest.max_length,)
    typical = next((length for length in lengths if length >= TYPICAL_TOKENS), lengths[-1])
    engines = cache / f"{manifest.sha256[MODEL_FILE][:DIGITS]}-{onnxruntime.__version__}"
    return {
        "trt_profile_min_shapes": _shapes(manifest, 1, 1),
        "trt_profile_opt_shapes": _shapes(manifest, shape.rows(typical), typical),
        "trt_profile_max_shapes": _shapes(manifest, shape.rows(lengths[0]), lengths[-1]),
        "trt_engine_cache_enable": "True",
        ENGINES: str(engines.absolute()),
        "trt_timing_cache_enable": "True",
        TIMINGS: str(cache.absolute()),
        "trt_fp16_enable": str(manifest.precision == "fp16"),
    }


def make_room(options: Mapping[str, str]) -> None:
    """Make the folders of the caches. Raises MachineError where that cannot be done."""
    try:
        Path(options[ENGINES]).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"tensorrt_cache {options[TIMINGS]}: {error.strerror}; expected a folder that can be written"
        ) from None


def check_plain(bundle: Bundle) -> None:
    """Raise BundleError where a graph holds operators that only onnxruntime knows.

    TensorRT would run the pieces between them, whose inputs no profile tells the shapes of.
    """
    with (bundle.folder / MODEL_FILE).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as model:
        if model.find(OWN_OPERATORS) >= 0:
            raise BundleError(
                f"bundle {bundle.folder}: {MODEL_FILE} holds fused operators of onnxruntime, which TensorRT does not "
                "know; expected a bundle that was exported with --plain"
            )


def _shapes(manifest: Manifest, rows: int, width: int) -> str:
    return ",".join(f"{name}:{rows}x{width}" for name in manifest.input_names)
