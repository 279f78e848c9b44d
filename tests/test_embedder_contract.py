"""What every embedder guarantees, run on each of them."""

import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedder import (
    Content,
    Embedder,
    EmbedderError,
    EmbedderUnavailable,
    EmbedError,
    Modality,
    Role,
    open_embedder,
)
from embedder.content import ROLES
from embedder.interface import ModelSpec, Vectors
from embedder.toy import ToyEmbedder

DUAL = Path(__file__).with_name("dual")
OF_FOLDERS = ("siglip2", "clip", "rzen", "qwen3-vl")


@pytest.fixture(scope="session")
def folders(tiny_rzen: Path, tiny_qwen3_vl: Path) -> dict[str, Path]:
    """A tiny checkpoint of each family that is read from a folder."""
    dual = {name: DUAL / name for name in ("siglip2", "clip")}
    return dual | {"rzen": tiny_rzen, "qwen3-vl": tiny_qwen3_vl}


@pytest.fixture(scope="module", params=["toy", "mini", *OF_FOLDERS])
def spec(request: pytest.FixtureRequest, folders: dict[str, Path]) -> str:
    folder = folders.get(request.param)
    return f"{request.param}:{folder}" if folder else str(request.param)


@pytest.fixture(params=OF_FOLDERS)
def copy(request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path: Path) -> ModelSpec:
    """The specification of a checkpoint in a folder that a test may damage."""
    folder = shutil.copytree(folders[request.param], tmp_path / "copy")
    return ModelSpec(request.param, str(folder))


@pytest.fixture(scope="module")
def embedder(spec: str) -> Iterator[Embedder]:
    with open_embedder(spec) as opened:
        yield opened


@pytest.fixture(scope="module", params=["toy", "mini"])
def trained(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    """Those that know what they see; the weights of the tiny ones are random."""
    with open_embedder(request.param) as opened:
        yield opened


def plain(colour: str, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, colour)


def stripes(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((160, 120), Image.Resampling.NEAREST)


def one_of_each() -> list[Content]:
    return [
        Content(text="a red kite over a green hill"),
        Content(frames=[stripes(1)]),
        Content(frames=[stripes(1), stripes(2), plain("blue")]),
        Content("Invoice 42", [stripes(3)], "page"),
        Content("A page without a picture", modality="page"),
        Content("a caption", [stripes(4)]),
    ]


def test_it_is_an_embedder_and_states_what_it_is(embedder: Embedder) -> None:
    assert isinstance(embedder, Embedder)
    assert embedder.info.modalities == frozenset(Modality)
    assert len(embedder.info.fingerprint) == 16
    assert 64 <= embedder.info.frame_side <= 4096


@pytest.mark.parametrize("role", ROLES)
def test_rows_are_unit_float32_in_order(embedder: Embedder, role: Role) -> None:
    contents = one_of_each()
    rows = embedder.embed(contents, role)
    assert rows.dtype == np.float32
    assert rows.shape == (len(contents), embedder.info.dim)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    assert np.allclose(embedder.embed(contents[::-1], role), rows[::-1], atol=1e-4)


def test_a_row_of_neither_zeros_nor_unit_length_is_refused() -> None:
    class Short(ToyEmbedder):
        def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
            return np.eye(len(contents), self.info.dim, dtype=np.float32) * [[1], [0], [0.9]]

    contents = [Content(text=text) for text in ("understood", "not understood", "broken")]
    with Short() as embedder, pytest.raises(EmbedError, match=r"content 2: .* unit length"):
        embedder.embed(contents, role="query")


def test_row_is_independent_of_the_batch(embedder: Embedder) -> None:
    contents = one_of_each() + [Content(text="long " * n) for n in (1, 7, 90)]
    together = embedder.embed(contents, role="document")
    alone = [embedder.embed([content], role="document")[0] for content in contents]
    assert np.abs(together - np.stack(alone)).max() < 1e-4


def test_more_contents_than_a_batch_are_embedded(embedder: Embedder) -> None:
    texts = [Content(text=f"number {i % 7} of many") for i in range(70)]
    rows = embedder.embed(texts, role="document")
    assert np.allclose(rows[:63], rows[7:70], atol=1e-5)
    assert not np.allclose(rows[0], rows[1], atol=1e-2)


def test_no_contents_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([], role="query").shape == (0, embedder.info.dim)


def test_unknown_role_is_refused(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="query, document"):
        embedder.embed([Content(text="words")], role="answer")  # type: ignore[arg-type]


def test_it_gives_the_same_rows_again(embedder: Embedder) -> None:
    contents = one_of_each()
    first, second = (embedder.embed(contents, role="query") for _ in range(2))
    assert np.array_equal(first, second)


def test_page_text_and_picture_both_count(trained: Embedder) -> None:
    both, text, picture, other_text, other_picture = trained.embed(
        [
            Content("red apples", [stripes(5)], "page"),
            Content("red apples"),
            Content(frames=[stripes(5)]),
            Content("tax law of the republic"),
            Content(frames=[plain("white")]),
        ],
        role="document",
    )
    assert both @ text > both @ other_text
    assert both @ picture > both @ other_picture


def test_every_frame_of_a_clip_counts(trained: Embedder) -> None:
    clip, first, last, other = trained.embed(
        [
            Content(frames=[stripes(6), stripes(6), plain("orange")]),
            Content(frames=[stripes(6)]),
            Content(frames=[plain("orange")]),
            Content(frames=[stripes(9)]),
        ],
        role="document",
    )
    assert clip @ first > clip @ other
    assert clip @ last > other @ last


@pytest.mark.parametrize(
    "text",
    ["x", "🙂🙃", "猫と犬", "\x00\x01\x7f", "\u00ad\u200b", "a" * 5000, "word " * 5_000, "\ud800"],
    ids=["letter", "emoji", "cjk", "control", "invisible", "unbroken", "long", "surrogate"],
)
def test_any_text_has_a_vector_or_is_not_understood(embedder: Embedder, text: str) -> None:
    (row,) = embedder.embed([Content(text=text)], role="query")
    assert not row.any() or np.linalg.norm(row) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (2, 3), (3000, 2000)])
def test_a_picture_of_any_size_has_a_vector(embedder: Embedder, size: tuple[int, int]) -> None:
    content = Content(frames=[plain("green", size)])
    assert np.isfinite(embedder.embed([content], role="document")).all()


def test_a_clip_of_many_frames_has_one_vector(embedder: Embedder) -> None:
    frames = [plain("red"), plain("blue")] * 150
    assert embedder.embed([Content(frames=frames)], role="document").shape[0] == 1


def test_threads_may_embed_at_the_same_time(embedder: Embedder) -> None:
    contents = one_of_each()
    expected = embedder.embed(contents, role="document")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: embedder.embed(contents, "document"), range(8)))
    assert all(np.abs(rows - expected).max() < 1e-4 for rows in results)


def test_calibration_grows_with_cosine(embedder: Embedder) -> None:
    for query in Modality:
        for document in Modality:
            low, high = embedder.info.calibrated(query, document).logit(np.array([0.0, 0.9]))
            assert low < 0 < high


def test_shipped_weights_are_calibrated(trained: Embedder) -> None:
    pairs = {(query, document) for query in Modality for document in Modality}
    assert pairs <= set(trained.info.calibration)


def test_another_frame_changes_clip_vector(embedder: Embedder) -> None:
    frames = [stripes(6), stripes(6), plain("orange")]
    clips = [Content(frames=frames[:n], modality="video") for n in (2, 3)]
    first, second = embedder.embed(clips, role="document")
    assert first @ second < 0.9999


def test_closed_embedder_refuses_to_embed(spec: str) -> None:
    with open_embedder(spec) as opened:
        pass
    opened.close()
    with pytest.raises(EmbedderError, match="closed"):
        opened.embed([Content(text="words")], role="query")


def test_reopened_embedder_is_the_same(spec: str) -> None:
    with open_embedder(spec) as first, open_embedder(spec) as second:
        assert first.info == second.info
        assert first.info.fingerprint == second.info.fingerprint


def test_embedders_have_different_fingerprints(folders: dict[str, Path]) -> None:
    specs = ["toy", "mini", *(f"{family}:{folder}" for family, folder in folders.items())]
    assert len({fingerprint(spec) for spec in specs}) == len(specs)


def test_fingerprint_is_that_of_the_weights_and_not_of_the_folder(
    copy: ModelSpec, folders: dict[str, Path]
) -> None:
    before = fingerprint(str(copy))
    assert fingerprint(f"{copy.family}:{folders[copy.family]}") == before
    weights = max(files_of(copy), key=lambda path: path.stat().st_size)
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    assert fingerprint(str(copy)) != before


@pytest.mark.parametrize("kept", [None, 0.5], ids=["missing", "truncated"])
def test_damaged_file_is_reported_unless_it_is_not_needed(
    copy: ModelSpec, kept: float | None
) -> None:
    expected, refused = embedded(copy), []
    for path in files_of(copy):
        content = path.read_bytes()
        path.unlink()
        if kept is not None:
            path.write_bytes(content[: int(kept * len(content))])
        found = embedded(copy)
        if isinstance(found, str):
            assert copy.argument in found
            refused.append(path.name)
        else:
            assert np.array_equal(found, expected)
        path.write_bytes(content)
    assert {"config.json", "tokenizer.json"} < set(refused)
    assert {Path(name).suffix for name in refused} & {".onnx", ".safetensors"}


def test_folder_without_a_model_of_the_family_is_refused(copy: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    config = Path(copy.argument) / "config.json"
    config.write_text(config.read_text("utf-8").replace('"model_type": "', '"model_type": "x'))
    for place in (copy.argument, tmp_path / "empty", tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(EmbedderUnavailable, match=re.escape(str(place))):
            open_embedder(f"{copy.family}:{place}")


def fingerprint(spec: str) -> str:
    with open_embedder(spec) as opened:
        return opened.info.fingerprint


def files_of(spec: ModelSpec) -> list[Path]:
    return sorted(path for path in Path(spec.argument).rglob("*") if path.is_file())


def embedded(spec: ModelSpec) -> Vectors | str:
    """Return what a model makes of words and a picture, or why it cannot be opened."""
    contents = [Content(text="red kite"), Content(frames=[stripes(1)])]
    try:
        with open_embedder(str(spec)) as opened:
            return opened.embed(contents, role="query")
    except EmbedderUnavailable as error:
        return str(error)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(EmbedderUnavailable, match="mini"):
        open_embedder("maxi")
