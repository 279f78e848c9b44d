import csv
import sys
from pathlib import Path

from trainer.metrics_log import METRICS_FILE, MetricsLog


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / METRICS_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def run(folder: Path, first: int, last: int, after: int = 0) -> None:
    with MetricsLog(folder, resume_after=after, total=9) as book:
        for step in range(first, last + 1):
            book.write(step, {"loss": step / 10})


def test_each_step_is_on_disk_at_once(tmp_path: Path):
    with MetricsLog(tmp_path, total=3) as book:
        book.write(1, {"loss": 0.5, "masked": 0.25})
        assert table(tmp_path) == [{"step": "1", "loss": "0.5", "masked": "0.25"}]


def test_a_run_that_resumes_drops_what_came_after_its_checkpoint(tmp_path: Path):
    run(tmp_path, 1, 5)
    run(tmp_path, 4, 6, after=3)
    assert [row["step"] for row in table(tmp_path)] == ["1", "2", "3", "4", "5", "6"]


def test_a_new_run_in_the_same_folder_starts_over(tmp_path: Path):
    run(tmp_path, 1, 5)
    run(tmp_path, 1, 2)
    assert [row["step"] for row in table(tmp_path)] == ["1", "2"]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path):
    run(tmp_path, 1, 3)
    path = tmp_path / METRICS_FILE
    path.write_text(path.read_text() + "4")
    run(tmp_path, 5, 5, after=4)
    assert [row["step"] for row in table(tmp_path)] == ["1", "2", "3", "5"]


def test_tensorboard_has_the_same_numbers(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, 1, 5)
    run(tmp_path, 4, 6, after=3)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_a_terminal_shows_a_bar(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with MetricsLog(tmp_path, total=4, shown=True) as book:
        book.write(4, {"loss": 0.5})
    assert "4/4" in capsys.readouterr().err
