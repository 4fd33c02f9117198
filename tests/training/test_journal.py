"""The log, the board, pictures and rates."""

import json
import math
import sys

import pytest
from PIL import Image

from viq.errors import InputError
from viq.training.journal import Journal, Window, peak_memory, value_of
from viq.training.stage import Evaluation

ONE_STEP = {"sums": {"text": 6.0}, "counts": {"text": 3.0}, "sizes": {"images": 4.0}}


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def journal(folder, **settings):
    return Journal(folder, **settings)


def test_a_line_has_step_time_and_figures(tmp_path):
    log = journal(tmp_path)
    log.log(3, {"loss": 1.5})
    log.close()
    (line,) = lines(tmp_path)
    assert line.keys() == {"step", "time", "loss"}
    assert (line["step"], line["loss"]) == (3, 1.5)


def test_what_json_cannot_say_is_null(tmp_path):
    log = journal(tmp_path)
    log.log(1, {"image_psnr": math.inf})
    log.close()
    assert lines(tmp_path)[0]["image_psnr"] is None


def test_lines_after_the_step_are_cut_and_torn_ones_dropped(tmp_path, caplog):
    log = journal(tmp_path)
    for step in range(6):
        log.log(step, {"loss": step})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    journal(tmp_path, step=3).close()
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3]
    assert "a line that is not whole is dropped" in caplog.text


def test_a_run_from_the_beginning_cuts_all(tmp_path):
    log = journal(tmp_path)
    log.log(0, {"eval_psnr": 3.0})
    log.close()
    journal(tmp_path).close()
    assert lines(tmp_path) == []


def test_processes_other_than_the_first_write_nothing(tmp_path):
    log = Journal(tmp_path, process=1)
    log.log(1, {"loss": 1.0})
    log.show(1, Evaluation({"eval": 1.0}, {"a": Image.new("RGB", (2, 2))}, "text"))
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_samples_that_could_not_be_used_are_named_and_cut_like_the_log(tmp_path):
    for process in (0, 1):
        log = Journal(tmp_path, process=process)
        log.report(1, [])
        assert not (tmp_path / f"errors-0000{process}.jsonl").exists()
        errors = [("photos/7", "is empty")]
        log.report(2, errors)
        assert errors == []  # so that none is written twice
        log.report(5, [("photos/9", "is no picture")])
        log.close()
        lines = (tmp_path / f"errors-0000{process}.jsonl").read_text().splitlines()
        assert json.loads(lines[0]) == {"step": 2, "id": "photos/7", "reason": "is empty"}
        assert len(lines) == 2
        Journal(tmp_path, process=process, step=3).close()
        assert len((tmp_path / f"errors-0000{process}.jsonl").read_text().splitlines()) == 1


def test_an_evaluation_is_a_line_pictures_and_a_text(tmp_path):
    log = journal(tmp_path)
    picture = Image.new("RGB", (5, 4), "blue")
    log.show(20, Evaluation({"eval_psnr": 20.0}, {"crops": picture}, "# Answers\n\nyes"))
    log.close()
    assert lines(tmp_path)[0]["eval_psnr"] == 20.0
    samples = tmp_path / "samples"
    assert sorted(p.name for p in samples.iterdir()) == [
        "step-0000020-crops.png",
        "step-0000020.md",
    ]
    assert Image.open(samples / "step-0000020-crops.png").size == (5, 4)
    assert (samples / "step-0000020.md").read_text() == "# Answers\n\nyes"


def test_tensorboard_can_read_figures_and_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = journal(tmp_path)
    log.log(1, {"loss": 2.5})
    log.show(2, Evaluation({"eval_psnr": 20.0}, {"crops": Image.new("RGB", (5, 4))}))
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert board.Scalars("loss")[0].value == 2.5
    assert board.Scalars("eval_psnr")[0].step == 2
    assert (board.Images("crops")[0].width, board.Images("crops")[0].height) == (5, 4)


def test_losses_average_over_what_they_count():
    window = Window()
    window.add(**ONE_STEP, loss=2.0, seconds=1.0, waited=0.5)
    window.add({"text": 2.0}, {"text": 1.0}, {"images": 0.0}, loss=4.0, seconds=3.0, waited=0.0)
    assert window.figures() == {
        "loss": 3.0,
        "text": 2.0,
        "images_per_s": 1.0,
        "wait": pytest.approx(0.125),
    }


def test_a_window_goes_on_from_its_state():
    whole, cut = Window(), Window()
    for window in (whole, cut):
        window.add(**ONE_STEP, loss=2.0, seconds=1.0, waited=0.5)
    resumed = Window(json.loads(json.dumps(cut.state_dict())))
    for window in (whole, resumed):
        window.add(**ONE_STEP, loss=1.0, seconds=1.0, waited=0.0)
    assert whole.figures() == resumed.figures()


def test_a_loss_that_nothing_was_counted_for_has_no_figure():
    window = Window()
    window.add({"image": 0.0}, {"image": 0.0}, {}, loss=0.0, seconds=1.0, waited=0.0)
    assert "image" not in window.figures()


def test_names_in_psnr_are_decibels_of_squared_errors():
    assert value_of("pixel_psnr", 0.04) == pytest.approx(20.0)
    assert value_of("pixel_psnr", 0.0) == math.inf
    assert value_of("pixel", 0.04) == 0.04


def test_peak_memory_is_that_of_a_process_with_torch():
    assert 0.05 < peak_memory() < 64


def test_wandb_is_named_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="W&B needs one more package: pip install wandb"):
        journal(tmp_path, wandb=True)


def test_wandb_gets_config_figures_and_the_end(tmp_path, monkeypatch):
    calls = []

    class Run:
        def log(self, figures, step):
            calls.append(("log", step, figures))

        def finish(self):
            calls.append(("finish",))

    class Wandb:
        @staticmethod
        def init(**settings):
            calls.append(("init", settings["name"], settings["config"]))
            return Run()

    monkeypatch.setitem(sys.modules, "wandb", Wandb)
    log = journal(tmp_path, wandb=True, run={"stage": "vae"})
    log.log(1, {"loss": 2.0})
    log.close()
    assert calls == [
        ("init", tmp_path.name, {"stage": "vae"}),
        ("log", 1, {"loss": 2.0}),
        ("finish",),
    ]
