"""Which precision is recommended, and why."""

import pytest

from relevance.errors import InputError
from training.scoring.precisions import Measured, Precisions, compare_precisions


def measured(precision, speed, shift=0.0, area=0.8):
    return Measured(
        precision=precision,
        runtime="onnxruntime",
        megabytes=10,
        pairs_per_second=100 * speed,
        times_fp32=speed,
        largest_logit_difference=4 * shift,
        score_shift_p99=shift,
        auc=area,
    )


@pytest.mark.parametrize(
    ("int8", "best"),
    [
        (measured("int8", 2.0, 0.01, 0.798), "int8"),
        (measured("int8", 2.0, 0.021), "fp32"),  # scores move too far
        (measured("int8", 2.0, 0.01, 0.796), "fp32"),  # AUC falls too far
        (measured("int8", 0.9), "fp32"),  # slower
        (measured("int8", 2.0, 0.01, None), "int8"),  # labels of one class
    ],
)
def test_the_fastest_of_those_near_fp32_is_recommended(int8, best):
    found = Precisions.of(50, [measured("fp32", 1.0), int8], {"fp16": "no GPU"})
    assert found.recommended == f"{best} in onnxruntime"
    assert "the AUC falls by 0.003 or less" in found.reason


def test_without_rows_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(InputError, match="no labelled rows to compare precisions on"):
        compare_precisions(tmp_path / "checkpoint", tmp_path / "out", [], overwrite=False)
    assert not (tmp_path / "out").exists()
