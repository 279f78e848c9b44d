"""Evaluation sets from disk: layouts, broken rows, scores, resuming, the command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluation_sets import change, colours, lines, only, picture
from PIL import Image

from embedder import Content, EmbedError, open_embedder
from embedder.content import Modality
from embedder.interface import BaseEmbedder, EmbedderInfo
from trainer.evaluate import find_sets, main, validation_score
from trainer.evaluation.formats import read_native
from trainer.evaluation.scoring import evaluate, table
from trainer.evaluation.sets import BadSet


def test_the_toy_finds_the_pictures_of_colours(tmp_path: Path) -> None:
    given = read_native(colours(tmp_path / "colours"))
    assert (given.name, given.category, given.metric) == ("colours", "image", "hit@1")
    with open_embedder("toy") as toy:
        result = evaluate(toy, given)
    assert result.metrics["hit@1"] == result.metrics["mrr"] == 1
    assert [one.query for one in result.queries] == ["q-red", "q-green", "q-blue"]
    assert result.queries[0].prediction[0] == "red"
    assert list(result.queries[0].cosines) == sorted(result.queries[0].cosines, reverse=True)
    assert not result.broken


def test_a_wrong_answer_lowers_the_score(tmp_path: Path) -> None:
    folder = colours(tmp_path / "colours")
    change(folder / "qrels.jsonl", 0, {"query": "q-red", "candidate": "blue"})
    with open_embedder("toy") as toy:
        assert evaluate(toy, read_native(folder)).metrics["hit@1"] == pytest.approx(2 / 3)


def test_grades_of_qrels_count(tmp_path: Path) -> None:
    folder = colours(tmp_path / "colours")
    lines(
        folder / "qrels.jsonl",
        [
            {"query": "q-red", "candidate": "blue", "relevance": 3},
            {"query": "q-red", "candidate": "red", "relevance": 1, "judge": "a"},
            {"query": "q-green", "candidate": "green", "relevance": 0},
        ],
    )
    given = read_native(folder)
    assert [one.entry.id for one in given.queries] == ["q-red"]
    assert given.queries[0].grades == {"blue": 3.0, "red": 1.0}
    assert [one.reason for one in given.broken] == [
        "none of its candidates is right for 'q-green'",
        "none of its candidates is right for 'q-blue'",
    ]


def test_a_query_may_be_ranked_among_candidates_of_its_own(tmp_path: Path) -> None:
    folder = colours(tmp_path / "colours")
    row = {"id": "q-red", "text": "blue", "candidates": ["red", "green"]}
    change(folder / "queries.jsonl", 0, row)
    with open_embedder("toy") as toy:
        result = evaluate(toy, read_native(folder))
    assert set(result.queries[0].prediction) == {"red", "green"}
    assert set(result.queries[1].prediction) == {"red", "green", "blue"}


def test_one_file_has_queries_with_their_candidates(tmp_path: Path) -> None:
    picture(tmp_path / "rows/a.png", "red")
    picture(tmp_path / "rows/b.png", "blue")
    both = [{"image": "a.png"}, {"image": "b.png"}]
    lines(
        tmp_path / "rows/rows.jsonl",
        [
            {"query": {"text": "blue"}, "candidates": both, "label": 1},
            {"query": {"text": "red"}, "candidates": both, "label": [0, 1], "source": "ours"},
        ],
    )
    given = read_native(tmp_path / "rows")
    assert [list(one.grades) for one in given.queries] == [["1/1"], ["2/0", "2/1"]]
    with open_embedder("toy") as toy:
        assert evaluate(toy, given).metrics["recall@1"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "the line is not JSON"),
        ("[" * 3000, "the line is not readable JSON"),
        ("[]", "the line is a list"),
        ({"query": {"text": "a"}}, "candidates: Field required"),
        (
            {"query": {"text": "a"}, "candidates": [], "label": 0},
            "candidates: List",
        ),
        ({"query": {"text": "a"}, "candidates": [{"text": "b"}], "label": 1}, "from 0 to 0"),
        (
            {"query": {"text": "a"}, "candidates": [{"text": "b"}], "label": True},
            "label.0: Input",
        ),
        (
            {"query": {"words": "a"}, "candidates": [{"text": "b"}], "label": 0},
            "query: words: unknown field",
        ),
        (
            {"query": {"text": 3}, "candidates": [{"text": "b"}], "label": 0},
            "query: text: Input",
        ),
        ({"query": {"text": "a"}, "candidates": [{"text": " "}], "label": 0}, "candidate 0:"),
        ({"query": {"text": "a"}, "candidates": ["b"], "label": 0}, "not an object"),
        (
            {"query": {"video": "a", "image": "b"}, "candidates": [{"text": "b"}], "label": 0},
            "query:",
        ),
    ],
)
def test_a_broken_row_is_named_and_the_others_are_read(
    tmp_path: Path, row: object, reason: str
) -> None:
    good = {"query": {"text": "a"}, "candidates": [{"text": "b"}], "label": 0}
    lines(tmp_path / "rows.jsonl", [good, row, good])
    given = read_native(tmp_path)
    assert len(given.queries) == 2
    (broken,) = given.broken
    assert broken.where == "rows.jsonl:2"
    assert reason in broken.reason


def test_a_candidate_that_cannot_be_decoded_is_left_out_and_its_query_does_not_count(
    tmp_path: Path,
) -> None:
    folder = colours(tmp_path / "colours")
    (folder / "green.png").write_bytes(b"no picture")
    with open_embedder("toy") as toy:
        result = evaluate(toy, read_native(folder))
    assert [one.query for one in result.queries] == ["q-red", "q-blue"]
    assert [one.where for one in result.broken] == ["candidates: green", "query q-green"]
    assert "green" not in result.queries[0].prediction


class Recording(BaseEmbedder):
    """Gives every content the same vector, refuses one text, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        modalities = frozenset(Modality)
        instructions = {
            (Modality.TEXT, Modality.IMAGE): "find: ",
            (Modality.TEXT, Modality.PAGE): "page: ",
        }
        self.info = EmbedderInfo("recording", "1", 3, modalities, instructions=instructions)
        self.seen: list[tuple[str, Content]] = []

    def _embed_batch(self, contents: list[Content], role: str) -> np.ndarray:
        for place, content in enumerate(contents):
            if content.text == "green":
                raise EmbedError(place, "it is green")
        self.seen += [(role, content) for content in contents]
        return np.tile(np.array([1, 0, 0], dtype=np.float32), (len(contents), 1))


def test_what_cannot_be_embedded_is_named_and_the_others_keep_their_vectors(
    tmp_path: Path,
) -> None:
    result = evaluate(Recording(), read_native(colours(tmp_path / "colours")))
    assert [(one.where, one.reason) for one in result.broken] == [
        ("queries: q-green", "it is green")
    ]
    assert [one.query for one in result.queries] == ["q-red", "q-blue"]
    # Every vector is the same: of equal cosines the wrong ones come first.
    assert (result.metrics["hit@1"], result.metrics["mrr"]) == (0, pytest.approx(1 / 3))


def test_queries_are_told_what_the_model_tells_those_that_look_for_such_candidates(
    tmp_path: Path,
) -> None:
    folder = colours(tmp_path / "colours")
    change(folder / "queries.jsonl", 0, {"id": "q-red", "text": "red", "instruction": ""})
    rows = [json.loads(one) for one in (folder / "candidates.jsonl").read_text().splitlines()]
    lines(folder / "candidates.jsonl", [row | {"modality": "page"} for row in rows])
    given = read_native(folder)
    assert (given.category, given.metric) == ("document", "ndcg_linear@5")
    recording = Recording()
    evaluate(recording, given)
    roles = {role for role, content in recording.seen if content.frames}
    assert roles == {"document"}
    asked = {one.text: one.instruction for role, one in recording.seen if role == "query"}
    assert asked == {"red": "", "blue": "page: "}


def test_a_set_says_what_it_is_in_dataset_json(tmp_path: Path) -> None:
    folder = colours(tmp_path / "colours")
    about = {"name": "Farben", "category": "document", "metric": "recall@5"}
    (folder / "dataset.json").write_text(json.dumps(about))
    given = read_native(folder)
    assert (given.name, given.category, given.metric) == ("Farben", "document", "recall@5")
    (folder / "dataset.json").write_text('{"name": "a/b", "metric": "luck", "colour": 1}')
    with pytest.raises(BadSet) as caught:
        read_native(folder)
    for part in (
        "colour: unknown field",
        "metric: it must be one of",
        "name: it must be usable as a file name",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "0 rows are broken"),
        ("x\n", r"1 rows are broken; the first is rows\.jsonl:1: the line"),
    ],
)
def test_a_set_without_a_query_is_refused_with_what_is_wrong(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(BadSet, match=rf"no usable query: {message}"):
        read_native(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_a_set_is_not_called_what_no_file_can_be_called(tmp_path: Path, name: str) -> None:
    folder = colours(tmp_path / "colours")
    (folder / "dataset.json").write_text(json.dumps({"name": name}))
    with pytest.raises(BadSet, match="name: it must be usable as a file name"):
        read_native(folder)


@pytest.mark.parametrize("relevance", [-1, True, "1", 10**400, float("nan"), float("inf")])
def test_a_relevance_that_is_no_number_breaks_its_row_alone(
    tmp_path: Path, relevance: object
) -> None:
    folder = colours(tmp_path / "colours")
    rows = [json.loads(one) for one in (folder / "qrels.jsonl").read_text().splitlines()]
    lines(folder / "qrels.jsonl", [*rows, rows[0] | {"relevance": relevance}])
    (broken,) = read_native(folder).broken
    assert broken.reason.startswith("relevance: Input should be")


def test_a_limit_takes_fewer_queries_and_all_candidates_of_a_common_list(tmp_path: Path) -> None:
    given = only(colours(tmp_path / "colours"), tmp_path, limit=1)
    assert (len(given.queries), len(given.candidates)) == (1, 3)


def test_a_limit_leaves_out_candidates_that_only_other_queries_have(tmp_path: Path) -> None:
    row = {"query": {"text": "a"}, "candidates": [{"text": "b"}, {"text": "c"}], "label": 0}
    lines(tmp_path / "set/rows.jsonl", [row, row])
    given = only(tmp_path / "set", tmp_path, limit=1)
    assert sorted(given.candidates) == ["1/0", "1/1"]


def test_folders_without_a_set_and_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSet, match="has no evaluation set"):
        only(tmp_path / "empty", tmp_path)
    with pytest.raises(BadSet, match="has no evaluation set"):
        only(tmp_path / "nowhere", tmp_path)
    colours(tmp_path / "one/same")
    colours(tmp_path / "two/same")
    with pytest.raises(BadSet, match="both called same"):
        list(find_sets([tmp_path / "one", tmp_path / "two"], None, tmp_path))


def test_a_file_of_a_set_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "X").mkdir()
    (tmp_path / "X/test.parquet").write_bytes(b"PAR1 but no parquet PAR1")
    command = ["--spec", "toy", "--data", str(tmp_path / "X"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "X/test.parquet cannot be read as parquet" in capsys.readouterr().err


def test_the_score_for_validation_is_the_mean_over_sets(tmp_path: Path) -> None:
    colours(tmp_path / "data/good")
    wrong = colours(tmp_path / "data/wrong")
    lines(wrong / "qrels.jsonl", [{"query": "q-red", "candidate": "blue"}])
    with open_embedder("toy") as toy:
        sets = list(find_sets([tmp_path / "data"], None, tmp_path))
        assert validation_score(toy, sets) == pytest.approx(0.5)


def test_the_command_writes_results_scores_a_table_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours(tmp_path / "data/colours")
    folder = colours(tmp_path / "data/broken")
    change(folder / "queries.jsonl", 1, "{")
    out = tmp_path / "out"
    command = ["--spec", "toy", "--data", str(tmp_path / "data"), "--out", str(out)]
    assert main(command) == 0
    score = json.loads((out / "broken_score.json").read_text("utf-8"))
    assert (score["hit@1"], score["num_pred"], score["broken"]) == (1, 2, 1)
    assert score["broken_rows"][0].startswith("queries.jsonl:2: the line is not JSON")
    rows = [json.loads(one) for one in (out / "colours_pred.jsonl").read_text().splitlines()]
    assert [(one["query"], one["prediction"][0], one["label"], one["hit@1"]) for one in rows] == [
        ("q-red", "red", ["red"], 1),
        ("q-green", "green", ["green"], 1),
        ("q-blue", "blue", ["blue"], 1),
    ]
    assert "| colours | image | 3 | 0 | hit@1 | 100.0 |" in (out / "scores.md").read_text("utf-8")
    with Image.open(out / "scores.png") as plot:
        assert plot.format == "PNG"
        assert len(plot.convert("RGB").getcolors(1_000_000) or []) > 10
    assert "| **mean of 2** | all |" in capsys.readouterr().out


def test_the_table_has_means_by_category_and_over_all_sets() -> None:
    def row(name: str, category: str, score: float) -> dict:
        measures = dict.fromkeys(
            ("hit@1", "hit@5", "hit@10", "ndcg_linear@5", "recall@10", "mrr"), score
        )
        counts = {"num_pred": 1, "broken": 0}
        about = {"dataset": name, "category": category, "metric": "hit@1", "score": score}
        return about | counts | measures

    lines = table([row("d", "document", 0.3), row("b", "image", 0.5), row("a", "image", 1.0)])
    cells = [[one.strip(" *") for one in line.split("|")[1:-1]] for line in lines.splitlines()]
    assert len({len(line) for line in cells}) == 1
    assert [(line[0], line[1], line[5]) for line in cells[2:]] == [
        ("a", "image", "100.0"),
        ("b", "image", "50.0"),
        ("d", "document", "30.0"),
        ("mean of 2", "image", "75.0"),
        ("mean of 1", "document", "30.0"),
        ("mean of 3", "all", "60.0"),
    ]


def test_sets_that_are_done_are_not_evaluated_again_until_they_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = colours(tmp_path / "data/colours")
    out = tmp_path / "out"
    command = ["--spec", "toy", "--data", str(tmp_path / "data"), "--out", str(out)]
    assert main(command) == 0
    before = (out / "colours_pred.jsonl").stat().st_mtime_ns
    colours(tmp_path / "data/second")
    assert main(command) == 0
    assert "colours: already done" in capsys.readouterr().err
    assert (out / "colours_pred.jsonl").stat().st_mtime_ns == before
    assert (out / "second_score.json").is_file()
    change(folder / "qrels.jsonl", 0, {"query": "q-red", "candidate": "blue"})
    assert main(command) == 0
    assert json.loads((out / "colours_score.json").read_text())["hit@1"] == pytest.approx(2 / 3)
    assert main([*command, "--limit", "1"]) == 0
    assert json.loads((out / "colours_score.json").read_text())["num_pred"] == 1


def test_scores_of_another_model_are_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours(tmp_path / "colours")
    command = ["--data", str(tmp_path / "colours"), "--out", str(tmp_path / "out"), "--spec"]
    assert main([*command, "toy"]) == 0
    path = tmp_path / "out/colours_score.json"
    known = json.loads(path.read_text())
    known["model"] = {"name": "old", "fingerprint": "0"}
    path.write_text(json.dumps(known))
    assert main([*command, "toy"]) == 2
    assert "score of another model (old)" in capsys.readouterr().err


def test_a_crash_while_a_set_is_written_leaves_it_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours(tmp_path / "colours")
    out = tmp_path / "out"
    command = ["--spec", "toy", "--data", str(tmp_path / "colours"), "--out", str(out)]
    replaced = Path.replace

    def failing(path: Path, target: Path) -> Path:
        if "score" in path.name:
            raise OSError("the disk is full")
        return replaced(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        assert main(command) == 2
    assert not (out / "colours_score.json").exists()
    assert main(command) == 0
    assert (out / "colours_score.json").exists()


def test_errors_of_the_command_are_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--out", str(tmp_path / "out"), "--data"]
    done = subprocess.run(
        [sys.executable, "-m", "trainer.evaluate", *flags, str(tmp_path), "--spec", "toy"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} has no evaluation set")
    assert main([*flags, str(colours(tmp_path / "colours")), "--spec", "unknown"]) == 2
    assert "unknown model 'unknown'" in capsys.readouterr().err


def test_a_qwen2_vl_is_evaluated_like_any_other_model(tmp_path: Path, tiny_rzen: Path) -> None:
    folder = colours(tmp_path / "colours")
    out = tmp_path / "out"
    command = ["--spec", f"rzen:{tiny_rzen}", "--data", str(folder), "--out", str(out)]
    assert main([*command, "--device", "cpu", "--dtype", "float32"]) == 0
    score = json.loads((out / "colours_score.json").read_text())
    assert (score["num_pred"], score["candidates"], score["recall@5"]) == (3, 3, 1)
