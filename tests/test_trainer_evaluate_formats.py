"""Evaluation sets as others publish them: MMEB's rows, corpora of documents."""

import io
from pathlib import Path

from evaluation_sets import lines, only, picture
from PIL import Image

from embedder import open_embedder
from embedder.toy import COLOURS
from trainer.evaluate import find_sets
from trainer.evaluation.scoring import evaluate


def test_rows_of_mmeb_are_read_from_parquet(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    for name in ("red", "blue"):
        picture(tmp_path / f"pictures/sub/{name}.png", name)
    rows = {
        "qry_inst": ["<|image_1|> Find a caption."] * 2,
        "qry_text": ["", ""],
        "qry_img_path": ["sub/red.png", "sub/blue.png"],
        "tgt_inst": ["ignored for texts"] * 2,
        "tgt_text": [["red", "blue", "blue"], ["blue", "red"]],
        "tgt_img_path": [["", "", ""], ["", ""]],
    }
    (tmp_path / "MMEB/COLOURS").mkdir(parents=True)
    parquet.write_table(Table.from_pydict(rows), tmp_path / "MMEB/COLOURS/test-00000.parquet")
    (given,) = find_sets([tmp_path / "MMEB"], tmp_path / "pictures", tmp_path)
    assert (given.name, given.category) == ("COLOURS", "image")
    assert given.queries[0].entry.instruction == "Find a caption."
    # The same target of several rows is one candidate, and gets no instruction.
    assert len(given.candidates) == 2
    assert {one.instruction for one in given.candidates.values()} == {""}
    with open_embedder("toy") as toy:
        assert evaluate(toy, given).metrics["hit@1"] == 1


def test_targets_of_mmeb_that_are_pictures_are_told_their_instruction(tmp_path: Path) -> None:
    row = {
        "qry_inst": "Find:",
        "qry_text": "a bus",
        "qry_img_path": "",
        "tgt_inst": "<|image_1|> Represent it with its words:",
        "tgt_text": ["a caption", "<|image_1|>\n"],
        "tgt_img_path": ["a.png", "b.png"],
    }
    other = row | {"tgt_img_path": ["a.png"]}
    typed = [row | {"qry_text": 3}, row | {"tgt_text": "b"}]
    lacking = {key: value for key, value in row.items() if key != "qry_text"}
    lines(tmp_path / "X/test.jsonl", [row, other, *typed, "x", lacking, row | {"tgt_img_path": []}])
    given = only(tmp_path / "X", tmp_path)
    first, second = given.candidates.values()
    assert (given.queries[0].entry.instruction, first.instruction, second.instruction) == (
        "Find: ",
        "Represent it with its words: ",
        "Represent it with its words:",
    )
    assert (first.side.text, second.side.text) == ("a caption", None)
    assert list(given.queries[0].grades) == [first.id]
    assert [(one.where, one.reason) for one in given.broken] == [
        ("test.jsonl:2", "it has 2 target texts and 1 target pictures"),
        ("test.jsonl:3", "qry_text: Input should be a valid string"),
        ("test.jsonl:4", "tgt_text: Input should be a valid tuple"),
        ("test.jsonl:5", "the line is not JSON: Expecting value at character 0"),
        ("test.jsonl:6", "qry_text: Field required"),
        ("test.jsonl:7", "it has 2 target texts and 0 target pictures"),
    ]


def test_corpora_of_documents_are_read_with_pictures_inside_the_files(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    def write(part: str, columns: dict) -> None:
        (tmp_path / "Doc" / part).mkdir(parents=True)
        path = tmp_path / "Doc" / part / "test-00000.parquet"
        parquet.write_table(Table.from_pydict(columns), path)

    pages = []
    for name in ("red", "blue", "green"):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), COLOURS[name]).save(buffer, format="png")
        pages.append({"bytes": buffer.getvalue(), "path": None})
    write("corpus", {"corpus-id": [1, 2, 3], "image": pages})
    write("queries", {"query-id": [7, 8], "query": ["red", "blau"], "language": ["en", "de"]})
    write("qrels", {"query-id": [7, 7, 8], "corpus-id": [1, 3, 2], "score": [2, 1, 1]})
    given = only(tmp_path / "Doc", tmp_path / "cache")
    assert (given.category, given.metric, len(given.queries)) == ("document", "ndcg_linear@5", 2)
    assert given.queries[0].grades == {"1": 2.0, "3": 1.0}
    (tmp_path / "Doc/dataset.json").write_text('{"language": "en"}')
    given = only(tmp_path / "Doc", tmp_path / "cache")
    with open_embedder("toy") as toy:
        result = evaluate(toy, given)
    assert [one.query for one in result.queries] == ["7"]
    assert result.queries[0].prediction[0] == "1"
    assert not result.broken
