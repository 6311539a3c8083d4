"""The store of stages' results."""

from types import SimpleNamespace

from training.pipeline import store as module
from training.pipeline.store import Ingredients, Store


def test_the_time_of_a_stage_leaves_out_that_of_stages_made_for_it(tmp_path, monkeypatch):
    store, clock = Store(tmp_path), SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def stage(name, seconds, *needs):
        def work(_folder):
            for need in needs:
                need()
            clock.now += seconds
            return {}

        return lambda: store.run(Ingredients(name, {}, {}), work).manifest.seconds

    train = stage("train", 200)
    calibrate = stage("calibrate", 3, train)
    assert stage("evaluate", 1, calibrate, train)() == 1
    assert clock.now == 204
    assert (calibrate(), train()) == (3, 200)
    assert stage("export", 60, calibrate)() == 60
    assert store.made == ["train", "calibrate", "evaluate", "export"]
