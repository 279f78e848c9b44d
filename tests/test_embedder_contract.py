"""What every embedder guarantees, run on each of them."""

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
from embedder.interface import Vectors
from embedder.toy import ToyEmbedder

DUAL = Path(__file__).with_name("dual")


@pytest.fixture(scope="module", params=["toy", "mini", "siglip2", "clip", "rzen"])
def spec(request: pytest.FixtureRequest) -> str:
    if request.param == "rzen":
        return f"rzen:{request.getfixturevalue('tiny_rzen')}"
    if request.param in ("siglip2", "clip"):
        return f"{request.param}:{DUAL / request.param}"
    return str(request.param)


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


def test_rows_are_unit_float32_in_order(embedder: Embedder) -> None:
    contents = one_of_each()
    rows = embedder.embed(contents, role="document")
    assert rows.dtype == np.float32
    assert rows.shape == (len(contents), embedder.info.dim)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    assert np.allclose(embedder.embed(contents[::-1], role="document"), rows[::-1], atol=1e-4)


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
def test_any_text_that_is_not_blank_has_a_vector(embedder: Embedder, text: str) -> None:
    assert np.isfinite(embedder.embed([Content(text=text)], role="query")).all()


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


def test_embedders_have_different_fingerprints(tiny_rzen: Path) -> None:
    fingerprints = set()
    dual = [f"{family}:{DUAL / family}" for family in ("siglip2", "clip")]
    for spec in ("toy", "mini", *dual, f"rzen:{tiny_rzen}"):
        with open_embedder(spec) as embedder:
            fingerprints.add(embedder.info.fingerprint)
    assert len(fingerprints) == 5


def test_unknown_name_is_refused() -> None:
    with pytest.raises(EmbedderUnavailable, match="mini"):
        open_embedder("maxi")
