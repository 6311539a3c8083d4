"""What TensorRT is told, and what is refused before it is asked. None of it needs a GPU."""

import re

import onnx
import onnxruntime
import pytest
from onnx import helper

from relevance.bundle import MODEL_FILE, Bundle, write_bundle_files
from relevance.errors import BundleError, ConfigError, MachineError
from service.batching import Shape
from service.engine import Engine
from service.providers import GpuOptions, providers
from service.settings import GPU_SHAPE
from service.tensorrt import TENSORRT, check_plain, make_room, tensorrt_options
from tests.tiny import INPUTS, tiny_bundle


@pytest.fixture
def bundle(tmp_path):
    tiny_bundle(tmp_path / "qc")
    return Bundle.open(tmp_path / "qc")


def shapes(options, which):
    """Return the rows and width of a profile, which must be those of every input."""
    parts = [part.split(":") for part in options[f"trt_profile_{which}_shapes"].split(",")]
    assert tuple(name for name, _ in parts) == INPUTS
    (shape,) = {shape for _, shape in parts}
    return tuple(map(int, shape.split("x")))


@pytest.mark.parametrize("longest", [20, 64, 96, 512])
@pytest.mark.parametrize("most", [512, 16_384])
def test_the_profile_covers_every_batch_of_the_shape(bundle, tmp_path, longest, most):
    manifest = bundle.manifest.model_copy(update={"max_length": longest})
    shape = Shape(most, GPU_SHAPE.lengths).within(longest)
    options = tensorrt_options(manifest, shape, tmp_path)
    low, best, high = (shapes(options, which) for which in ("min", "opt", "max"))
    assert low == (1, 1)
    assert high[1] == longest
    for width in shape.lengths:
        assert low[0] <= shape.rows(width) <= high[0]
    assert best[0] * best[1] <= most
    assert low[0] <= best[0] <= high[0]
    assert low[1] <= best[1] <= high[1]


def test_the_profile_is_best_at_full_batches_of_typical_pairs(bundle, tmp_path):
    options = tensorrt_options(bundle.manifest, Shape(4096, (16, 24, 32, 48)), tmp_path)
    assert shapes(options, "opt") == (128, 32)
    assert shapes(options, "max") == (256, bundle.manifest.max_length)


def test_exact_lengths_are_covered_as_well(bundle, tmp_path):
    options = tensorrt_options(bundle.manifest, Shape(960), tmp_path)
    assert shapes(options, "max") == (10, bundle.manifest.max_length)


def test_each_model_file_has_its_engines_and_all_share_the_timings(bundle, tmp_path):
    tiny_bundle(tmp_path / "other", seed=1)
    cache = tmp_path / "cache"
    first, second = (
        tensorrt_options(opened.manifest, GPU_SHAPE, cache) for opened in (bundle, Bundle.open(tmp_path / "other"))
    )
    assert first["trt_engine_cache_path"] != second["trt_engine_cache_path"]
    assert first["trt_engine_cache_path"].endswith(f"-{onnxruntime.__version__}")
    assert first["trt_timing_cache_path"] == second["trt_timing_cache_path"] == str(cache)
    assert first["trt_engine_cache_enable"] == first["trt_timing_cache_enable"] == "True"


@pytest.mark.parametrize(("precision", "half"), [("fp32", "False"), ("fp16", "True")])
def test_half_precision_is_used_for_half_precision_bundles_only(bundle, tmp_path, precision, half):
    manifest = bundle.manifest.model_copy(update={"precision": precision})
    assert tensorrt_options(manifest, GPU_SHAPE, tmp_path)["trt_fp16_enable"] == half


def test_the_folders_are_made(bundle, tmp_path):
    options = tensorrt_options(bundle.manifest, GPU_SHAPE, tmp_path / "a" / "b")
    make_room(options)
    make_room(options)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [options["trt_engine_cache_path"].split("/")[-1]]


def test_a_cache_that_is_no_folder_is_refused(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=re.escape(str(tmp_path / "file"))):
        make_room(tensorrt_options(bundle.manifest, GPU_SHAPE, tmp_path / "file"))


def test_a_graph_of_standard_operators_is_taken(bundle):
    check_plain(bundle)


def test_a_graph_with_operators_of_onnxruntime_is_refused(bundle):
    path = bundle.folder / MODEL_FILE
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    for node in model.graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
    model.graph.node.append(helper.make_node("Gelu", ["before"], ["logits"], domain="com.microsoft"))
    onnx.save(model, path)
    write_bundle_files(bundle.folder, bundle.manifest, bundle.golden)
    with pytest.raises(BundleError, match="--plain"):
        check_plain(Bundle.open(bundle.folder))


@pytest.mark.skipif(TENSORRT in onnxruntime.get_available_providers(), reason="this onnxruntime offers TensorRT")
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_tensorrt_asked_for_and_not_offered_is_refused(bundle, tmp_path, device):
    with pytest.raises(MachineError, match=r"CPUExecutionProvider.*expected.*TensorrtExecutionProvider"):
        Engine(bundle, device=device, gpu=GpuOptions(GPU_SHAPE, tensorrt_cache=tmp_path))


def test_tensorrt_on_the_cpu_is_refused(bundle, tmp_path):
    with pytest.raises(MachineError, match="device cpu"):
        providers(bundle, "cpu", GpuOptions(GPU_SHAPE, tensorrt_cache=tmp_path))


def test_tensorrt_and_cuda_graphs_exclude_each_other(bundle, tmp_path):
    with pytest.raises(ConfigError, match="one of the two"):
        providers(bundle, "auto", GpuOptions(GPU_SHAPE, cuda_graphs=True, tensorrt_cache=tmp_path))
