from pathlib import Path

import pytest
import torch

from training.fitting.loop.precision import has_bf16, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni", True),
        ("flags\t\t: fpu avx512f amx_tile amx_bf16", True),
        ("Features\t: fp asimd i8mm bf16", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),  # torch can imitate bf16 here, slower than fp32
        ("", False),
    ],
)
def test_bf16_is_found_by_the_processors_flags(tmp_path: Path, flags: str, expected: bool):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: of a test\n{flags}\n")
    assert has_bf16(file) is expected


def test_without_cpuinfo_there_is_no_bf16(tmp_path: Path):
    assert not has_bf16(tmp_path / "none")


@pytest.mark.parametrize("supported", [True, False])
def test_auto_on_a_cpu_is_bf16_where_it_is_multiplied(monkeypatch: pytest.MonkeyPatch, supported: bool):
    monkeypatch.setattr("training.fitting.loop.precision.has_bf16", lambda: supported)
    automatic = "bf16" if supported else "fp32"
    assert resolve_precision("auto", CPU) == automatic
    assert resolve_precision("fp16", CPU) == automatic  # needs a GPU
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"


@pytest.mark.parametrize("asked", ["auto", "bf16", "fp32"])
def test_an_architecture_whose_code_fails_in_16_bits_trains_in_fp32(monkeypatch: pytest.MonkeyPatch, asked: str):
    monkeypatch.setattr("training.fitting.loop.precision.has_bf16", lambda: True)
    assert resolve_precision(asked, CPU, "deberta") == "fp32"
    assert resolve_precision("auto", CPU, "deberta-v2") == "bf16"
