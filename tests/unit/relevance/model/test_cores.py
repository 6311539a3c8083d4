"""What the processor can do, read from the system's description of it."""

import platform

from relevance.model.cores import cpu_flags, processor


def test_the_processor_is_named_with_the_flags_that_decide_its_speed(tmp_path):
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx512f amx_bf16\n" * 2)
    assert processor(facts) == "Some CPU @ 2 GHz, amx_bf16, avx2, avx512f"
    assert {"fpu", "avx2", "amx_bf16"} <= cpu_flags(facts)


def test_a_system_that_does_not_tell_gives_the_architecture(tmp_path):
    assert processor(tmp_path / "absent") == platform.machine()
    assert cpu_flags(tmp_path / "absent") == frozenset()


def test_this_machine_is_named():
    assert processor()
