"""The ablation in miniature: its sets, its plan, its jobs and its table."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.miniature import ablation, sets
from benchmarks.miniature import ablation as table
from benchmarks.miniature.ablation import Job, JobFailed, run
from trainer.config import Run
from trainer.data.examples import ErrorBudget, Unreadable
from trainer.data.readers import read_jsonl
from trainer.evaluation.formats import read_native
from trainer.mini.pictures import Drawing, Picture

pytestmark = pytest.mark.slow


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of 400 drawings and 300 stamps in place of Debian's packages."""
    png = tmp_path / "drawing.png"
    Image.new("RGB", (60, 30), (255, 0, 0)).save(png)
    drawings = [
        Drawing(png, f"thing {i}", ("red", f"word {i % 7}"), f"animals/kind{i % 3}", f"thing {i}")
        for i in range(400)
    ]
    drawings += [replace(drawings[0], title=f"variant {i}", group="variant") for i in range(30)]
    drawings += [replace(drawings[1], path=tmp_path / "gone.png", title="gone", group="gone")]

    def stamps() -> Iterator[Picture]:
        for i in range(300):
            source = f"/usr/share/tuxpaint/stamps/sort{i % 2}/{i}.png"
            yield Picture(Image.new("RGB", (20, 20), (0, 0, 255)), source, f"Stamp {i}")

    monkeypatch.setattr(sets, "drawings", lambda: drawings)
    monkeypatch.setattr(sets, "stamps", stamps)


@pytest.fixture
def written(debian: None, tmp_path: Path) -> Path:
    """The sets of that library."""
    sets.write(tmp_path / "data")
    return tmp_path / "data"


def test_every_row_of_the_sets_can_be_read(written: Path) -> None:
    errors = ErrorBudget(0.0)
    for path in sorted(written.glob("*.jsonl")):
        rows = list(read_jsonl(path, errors, folder=written / "pictures"))
        assert rows
        frames = [*rows[0].query.content().frames, *rows[0].positive.content().frames]
        assert [frame.size for frame in frames] == [(112, 112)]
    assert errors.broken == 0
    for folder in sorted((written / "held-out").iterdir()):
        assert not read_native(folder).broken


def test_nothing_that_is_measured_on_was_trained_on(written: Path) -> None:
    trained, measured = set(), set()
    for path in written.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            trained |= {side.get("images") for side in (row["query"], row["positive"])}
    for path in written.glob("held-out/*/*s.jsonl"):
        measured |= {json.loads(line).get("image") for line in path.read_text().splitlines()}
    assert len(trained - {None}) > 400
    assert len(measured - {None}) > 100
    assert trained & measured == {None}


def test_all_pictures_of_a_label_or_keyword_are_right_for_it(written: Path) -> None:
    found = read_native(written / "held-out" / "find-by-keywords")
    assert max(len(query.grades) for query in found.queries) > 1
    sorts = read_native(written / "held-out" / "sort-animals")
    assert {entry.side.text for entry in sorts.candidates.values()} == {"kind0", "kind1", "kind2"}


def test_variants_are_thinned_out_and_what_cannot_be_decoded_is_left_out(written: Path) -> None:
    rows = [
        json.loads(line)["query"]["text"]
        for line in (written / "find-clipart.jsonl").read_text().splitlines()
    ]
    found = read_native(written / "held-out" / "find-clipart")
    rows += [query.entry.side.text for query in found.queries]
    assert sum(one.startswith("variant") for one in rows) == 10
    assert "gone" not in rows


def test_runs_of_a_seed_differ_in_their_ingredient_alone(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "seed-3"
    folder.mkdir()

    def read(name: str, config: str) -> Run:
        path = folder / f"{name}.toml"
        path.write_text(config)
        return Run.read(path)

    runs = {one.name: read(one.name, sets.stage2(3, written, one)) for one in sets.VARIANTS}
    base = runs["baseline"]
    assert (base.loss.alpha, base.loss.learn_temperature) == (0.0, False)
    assert base.loss.delta > 1
    expected = {
        "mask": replace(base, loss=replace(base.loss, delta=0.95)),
        "hardness": replace(base, loss=replace(base.loss, alpha=9.0)),
        "temperatures": replace(base, loss=replace(base.loss, learn_temperature=True)),
        "merged": replace(base, batches=replace(base.batches, merge_classification=True)),
        "prompts": replace(base, settings=runs["prompts"].settings),
    }
    for name, run_ in expected.items():
        assert runs[name] == replace(run_, out=folder / name)
    assert runs["prompts"].settings["system"] == sets.PROMPTS[0]
    whole = runs["all"]
    assert (whole.loss.alpha, whole.loss.delta, whole.loss.learn_temperature) == (9.0, 0.95, True)
    assert whole.batches.merge_classification
    assert whole.settings == runs["prompts"].settings
    twice = [one.path.stem for one in runs["mix-find"].data if one.resampling == 2]
    assert twice == ["find-by-keywords", "find-clipart", "find-stamps"]
    first = read("stage1", sets.stage1(3, written))
    assert (first.loss.alpha, first.loss.delta > 1, first.model.method) == (0.0, True, "full")


def test_without_the_packages_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> list[Drawing]:
        raise Unreadable("nothing is missing: apt-get install openclipart-svg")

    monkeypatch.setattr(sets, "drawings", none)
    assert ablation.main([str(tmp_path / "out")]) == 2
    assert "apt-get install openclipart-svg" in capsys.readouterr().err
    assert not (tmp_path / "out" / "data").exists()


def test_a_dry_run_lists_what_is_to_be_done_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seed-0" / "stage1" / "model").mkdir(parents=True)
    assert ablation.main([str(tmp_path), "--seeds", "1", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["done   seed-0-stage1", "to do  seed-0-baseline"]
    assert len(said) == 1 + 2 * len(sets.VARIANTS) + 4
    assert not (tmp_path / "data").exists()


def _job(folder: Path, name: str, code: str, *needs: str) -> Job:
    path = folder / name
    command = ["-c", f"import pathlib, time; p = pathlib.Path({str(path)!r}); {code}"]
    return Job(name, lambda: command, path, needs)


def test_jobs_run_after_what_they_need_and_only_once(tmp_path: Path) -> None:
    write = "p.write_text(' '.join(sorted(o.name for o in p.parent.iterdir() if o.is_file())))"
    jobs: Sequence[Job] = [
        _job(tmp_path, "a", f"time.sleep(0.5); {write}"),
        _job(tmp_path, "b", write),
        _job(tmp_path, "c", write, "a", "b"),
    ]
    run(jobs, tmp_path / "logs", 2)
    assert (tmp_path / "c").read_text() == "a b"
    assert (tmp_path / "a").read_text() == "b"  # Both at the same time.
    before = (tmp_path / "a").stat().st_mtime_ns
    (tmp_path / "c").unlink()
    run(jobs, tmp_path / "logs", 2)
    assert (tmp_path / "a").stat().st_mtime_ns == before
    assert (tmp_path / "c").exists()


def test_a_job_that_fails_is_told_with_its_last_lines_and_stops_the_others(tmp_path: Path) -> None:
    jobs = [
        _job(tmp_path, "long", "time.sleep(60)"),
        _job(tmp_path, "bad", "raise SystemExit('no room left')"),
    ]
    started = time.monotonic()
    with pytest.raises(JobFailed, match=r"bad failed(.|\n)*no room left"):
        run(jobs, tmp_path / "logs", 2)
    assert time.monotonic() - started < 30


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    first = ablation.planned(tmp_path, 1)[0]
    (tmp_path / "seed-0" / "stage1" / "tensorboard").mkdir(parents=True)
    assert "--resume" not in first.arguments()
    assert not (tmp_path / "seed-0" / "stage1").exists(), "half a run is in the way of a new one"
    (tmp_path / "seed-0" / "stage1" / "checkpoints" / "step-00000060").mkdir(parents=True)
    assert "--resume" in first.arguments()


def test_the_table_has_means_over_seeds_and_differences_within_them(tmp_path: Path) -> None:
    scores = {"baseline": (0.10, 0.30), "mask": (0.12, 0.34)}
    names = ["base", "stage1", *(one.name for one in sets.VARIANTS), sets.SOUP]
    for seed in range(2):
        for name in names:
            folder = tmp_path / "scores" / f"seed-{seed}-{name}"
            folder.mkdir(parents=True)
            for dataset in ("find-a", "find-b", "name", "sort-x"):
                score = scores.get(name, (0.0, 0.0))[seed] + 0.02 * (dataset == "find-a")
                about = {"dataset": dataset, "metric": "hit@1", "num_pred": 9, "candidates": 4}
                (folder / f"{dataset}_score.json").write_text(json.dumps({**about, "score": score}))
        for name in ("stage1", "mask", "temperatures"):
            (tmp_path / f"seed-{seed}" / name).mkdir(parents=True)
            (tmp_path / f"seed-{seed}" / name / "metrics.csv").write_text(
                "step,loss,masked,tau/image_retrieval,tau/image_qa,tau/image_classification\n"
                "1,4.0,0.5,0.05,0.05,0.05\n2,3.0,0.1,0.04,0.06,0.05\n"
            )
    text = table.write(tmp_path, 2)
    line = next(one for one in text.splitlines() if "false-negative mask" in one)
    assert line == (
        "| + false-negative mask | 24.0 ± 15.6 | 23.0 ± 15.6 | 23.0 ± 15.6 | 23.3 ± 15.6 "
        "| +3.0 ± 1.4 |"
    )
    assert (tmp_path / "ablation.md").read_text() == text
    assert len((tmp_path / "ablation.csv").read_text().splitlines()) == 1 + 2 * len(names) * 4
    for name in ("ablation.png", "curves.png"):
        with Image.open(tmp_path / name) as plot:
            assert plot.width > 600
