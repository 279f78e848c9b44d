"""The embedded default model: what it finds, what it costs, and that its weights are checked."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from embedder import Content, EmbedderUnavailable, Modality
from embedder.interface import Vectors
from embedder.mini.embedder import FOLDER, SIDE, MiniEmbedder, Weights, pixels_of
from embedder.mini.languages import LanguageMap, hashed, is_english
from embedder.mini.sentences import Sentences
from embedder.mini.space import Space
from embedder.mini.text import WINDOW, SentenceEncoder, cut

MEDIA = Path(__file__).with_name("media")
PHOTOS = ("cat", "coffee", "astronaut", "rocket")
CATS = (
    "Cats are small carnivores that people keep as pets. They sleep for most of the day, groom "
    "themselves, hunt mice and purr. A kitten stays with its mother for about three months."
)
TAXES = (
    "The taxpayer shall file the return by the last day of April. Interest accrues on amounts "
    "that remain unpaid after the deadline, unless the office grants an extension."
)


@pytest.fixture(scope="module")
def mini() -> Iterator[MiniEmbedder]:
    with MiniEmbedder() as opened:
        yield opened


def photo(name: str) -> Image.Image:
    with Image.open(MEDIA / f"{name}.jpg") as opened:
        return opened.convert("RGB")


def texts(mini: MiniEmbedder, *words: str) -> Vectors:
    return mini.embed([Content(text=one) for one in words], role="query")


def pictures(mini: MiniEmbedder, *images: Image.Image) -> Vectors:
    return mini.embed([Content(frames=[one]) for one in images], role="document")


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ("a photo of a cat", "cat"),
        ("kitten", "cat"),
        ("a cup of coffee", "coffee"),
        ("espresso on a table", "coffee"),
        ("astronaut", "astronaut"),
        ("a rocket launch", "rocket"),
    ],
)
def test_words_find_their_photo(mini: MiniEmbedder, words: str, nearest: str) -> None:
    scores = texts(mini, words)[0] @ pictures(mini, *map(photo, PHOTOS)).T
    assert PHOTOS[int(scores.argmax())] == nearest


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ("eine schlafende Katze", "cat"),
        ("une tasse de café", "coffee"),
        ("ракета", "rocket"),
        ("一只猫", "cat"),
        ("コーヒー", "coffee"),
        ("فنجان قهوة", "coffee"),
    ],
)
def test_words_of_other_languages_find_their_photo(
    mini: MiniEmbedder, words: str, nearest: str
) -> None:
    scores = texts(mini, words)[0] @ pictures(mini, *map(photo, PHOTOS)).T
    assert PHOTOS[int(scores.argmax())] == nearest


def test_passages_are_found_across_languages(mini: MiniEmbedder) -> None:
    katzen = "Katzen sind kleine Raubtiere, die Menschen als Haustiere halten und die Mäuse jagen."
    english, german, russian, steuern = texts(
        mini, CATS, katzen, "Кошки охотятся на мышей", "Die Steuererklärung ist bis April fällig."
    )
    for one, other in ((english, german), (german, russian), (english, russian)):
        assert one @ other > max(one @ steuern, other @ steuern) + 0.2


def test_english_needs_no_second_encoder() -> None:
    with MiniEmbedder() as fresh:
        english = texts(fresh, "a photo of a cat", "children in the snow")
        languages = fresh._loaded().sentences.languages
        assert languages is not None
        assert languages._encoder is None
        again = texts(fresh, "a photo of a cat", "children in the snow", "eine Katze")[:2]
        assert languages._encoder is not None
    assert np.allclose(again, english, atol=1e-6)


@pytest.mark.parametrize("text", ["*", "?!", "\N{GRINNING FACE}", "asdkjh qwezxc", "\ud800"])
def test_what_is_not_understood_is_like_nothing(mini: MiniEmbedder, text: str) -> None:
    picture, mixed = mini.embed(
        [Content(frames=[photo("cat")]), Content(text, [photo("cat")])], role="document"
    )
    assert not texts(mini, text).any()
    assert np.allclose(mixed, picture)


def tiny_map(**changes: Any) -> LanguageMap:
    arrays: dict[str, Any] = {
        "words": np.sort(hashed(["a", "cat", "on", "sofa"])),
        "lengths": np.array([0, 9, 1, 0], dtype=np.uint8),
        "projection": np.eye(3, 2, dtype=np.float32),
        "word_weight": 0.5,
        "foreign": 0.0,
        "agreed": 0.6,
        "fluency": 2.0,
    }
    return LanguageMap(**(arrays | changes))


def test_the_encoders_agreement_decides_between_them() -> None:
    english = np.array([[1, 0]] * 4, dtype=np.float32)
    other = np.array([[0.6, 0.8], [0.3, 0.91**0.5], [0, 1], [0, 1]], dtype=np.float32)
    fluent = np.array([False, True, True, False])
    rows = tiny_map().merged(english, other, np.zeros(4, np.float32), fluent)
    assert np.array_equal(rows[[0, 2, 3]], [[1, 0], [0, 1], [0, 0]])
    assert rows[1] @ english[1] == pytest.approx(rows[1] @ other[1])
    rows = tiny_map().merged(english, other, np.full(4, 0.6, np.float32), fluent)
    assert np.array_equal(rows[:2], english[:2]), "with English words, less agreement is enough"


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("A cat", True),
        ("2 cats on a sofa!", True),
        ("A cat on a sofa, a cat on a sofa, Felix.", True),
        ("a cat on Felix", False),
        ("chat on a sofa", False),
        ("42?!", False),
        ("\ud800", False),
    ],
)
def test_texts_of_english_words_are_english(text: str, english: bool) -> None:
    assert is_english(tiny_map().english_words(text)) is english


@pytest.mark.parametrize(
    ("tokens", "fluent"),
    [([1], True), ([1, 2, 2, 2], True), ([2, 2], False), ([1, 0, 0, 0, 0], False), ([3], False)],
)
def test_few_long_tokens_are_understood(tokens: list[int], fluent: bool) -> None:
    assert tiny_map().is_fluent(tokens) is fluent


def test_english_words_are_known(mini: MiniEmbedder) -> None:
    words = ("bridge", "bridges", "bringe", "brigde")
    assert [mini.knows_word(word) for word in words] == [True, True, False, False]


def test_cat_finds_cats_only(mini: MiniEmbedder) -> None:
    documents = [
        Content(frames=[photo("cat")]),
        Content(frames=[photo("cat"), ImageOps.mirror(photo("cat"))]),
        Content(text=CATS),
        *(Content(frames=[photo(name)]) for name in PHOTOS[1:]),
        Content(text=TAXES),
    ]
    rows = mini.embed(documents, role="document")
    cosines = rows @ texts(mini, "cat")[0]
    logits = [
        float(mini.info.calibrated(Modality.TEXT, document.modality).logit(cosine))
        for document, cosine in zip(documents, cosines, strict=True)
    ]
    assert min(logits[:3]) > 1
    assert max(logits[3:]) < -1


def copies(image: Image.Image) -> dict[str, Image.Image]:
    width, height = image.size
    return {
        "corner": image.crop((0, 0, width * 4 // 5, height * 4 // 5)),
        "half size": image.resize((width // 2, height // 2)),
        "quality 30": jpeg(image, 30),
        "brighter": ImageEnhance.Brightness(image).enhance(1.15),
        "paler": ImageEnhance.Color(image).enhance(0.85),
        "mirrored": ImageOps.mirror(image),
    }


@pytest.mark.parametrize("name", PHOTOS)
def test_copies_of_photo_are_found_first(mini: MiniEmbedder, name: str) -> None:
    image = photo(name)
    lookalikes = [
        ImageOps.posterize(image.rotate(90), 3),
        image.filter(ImageFilter.GaussianBlur(12)),
        image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    ]
    others = [photo(other) for other in PHOTOS if other != name]
    documents = pictures(mini, image, *lookalikes, *others)
    altered = copies(image)
    scores = pictures(mini, *altered.values()) @ documents.T
    missed = [kind for kind, row in zip(altered, scores, strict=True) if row.argmax() != 0]
    assert missed == []
    assert (mini.info.calibrated(Modality.IMAGE, Modality.IMAGE).logit(scores[:, 0]) > 0).all()


def test_paraphrase_is_nearer_than_other_topic(mini: MiniEmbedder) -> None:
    query, same, other = texts(mini, "how do I keep my kitten healthy", CATS, TAXES)
    assert query @ same > query @ other + 0.3


def test_end_of_long_text_counts(mini: MiniEmbedder) -> None:
    long, cats, taxes = texts(mini, f"{CATS} " * 20 + f"{TAXES} " * 20, CATS, TAXES)
    assert abs(long @ cats - long @ taxes) < 0.15
    assert min(long @ cats, long @ taxes) > 0.5


@pytest.mark.parametrize("count", [0, 1, WINDOW - 2, WINDOW - 1, 1000, 12_345])
def test_windows_are_even_and_complete(count: int) -> None:
    windows = list(cut(range(count)))
    assert [piece for window in windows for piece in window] == list(range(count))
    lengths = [len(window) for window in windows]
    assert max(lengths) <= WINDOW - 2
    assert max(lengths) - min(lengths) <= 1


class Recorder:
    """Stands in for a session: notes the shape of what it is given, and passes it on."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def __init__(self, session: Any = None) -> None:
        self.session = session
        self.shapes: list[tuple[int, ...]] = []

    def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        shape = next(iter(inputs.values())).shape
        self.shapes.append(shape)
        if self.session is None:
            return [np.zeros((shape[0], 384), dtype=np.float32)]
        found: list[np.ndarray] = self.session.run(names, inputs)
        return found


def test_short_text_is_not_padded_to_long_one() -> None:
    recorder: Any = Recorder()
    encoder = SentenceEncoder(recorder, recorder, around=(101, 102), width=384)
    encoder.run([[1] * 256, [1] * 7, [1] * 250, [1] * 8])
    assert sorted(recorder.shapes) == [(2, 8), (2, 256)]


def test_equal_contents_are_computed_once(mini: MiniEmbedder) -> None:
    models = mini._loaded()
    encoder = models.sentences.encoder
    vision, text = Recorder(models.vision), Recorder(encoder.session)
    recorded = dataclasses.replace(encoder, session=text)
    sentences = Sentences(recorded, models.sentences.languages, 1)
    mini._models = dataclasses.replace(models, vision=vision, sentences=sentences)
    try:
        clip = Content(frames=[photo("cat"), photo("coffee")] * 20)
        mini.embed([clip, Content(text="cat"), Content(text="cat"), clip], role="document")
    finally:
        mini._models = models
    assert sum(shape[0] for shape in vision.shapes) == 2
    assert sum(shape[0] for shape in text.shapes) == 1


def test_pixels_are_the_centre_of_a_picture() -> None:
    image = Image.new("RGB", (400, 200), "red")
    image.paste((0, 0, 255), (112, 12, 288, 188))
    pixels = pixels_of(image)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert (pixels[5:-5, 5:-5] == (0, 0, 255)).all()


def test_frame_at_frame_side_gives_nearly_the_same_vector(
    mini: MiniEmbedder,
) -> None:
    large = photo("astronaut").resize((1440, 1440), Image.Resampling.BICUBIC)
    small = large.resize((mini.info.frame_side,) * 2, Image.Resampling.BICUBIC)
    one, other = pictures(mini, large, small)
    assert one @ other > 0.99


def tiny_space(**changes: Any) -> Space:
    arrays: dict[str, Any] = {
        "prototypes": np.eye(3, 2, dtype=np.float32),
        "mean": np.array([1, 1], dtype=np.float32),
        "projection": np.eye(2, dtype=np.float32),
        "text_projection": np.array([[0, 1], [1, 0], [0, 0]], dtype=np.float32),
        "picture_shares": np.sqrt(np.array([0.5, 0.5], dtype=np.float32)),
        "text_shares": np.sqrt(np.array([0.8, 0.2], dtype=np.float32)),
        "temperature": 2.0,
        "top": 2,
    }
    return Space(**(arrays | changes))


def test_picture_lies_between_likely_classes() -> None:
    logits = np.array([[2 * np.log(3), 0, -9]], dtype=np.float32)  # odds 3:1 at temperature 2
    pooled = np.array([[4, 5]], dtype=np.float32)
    row = tiny_space().pictures(pooled, logits)[0]
    meaning, looks = np.array([3, 1]) / 10**0.5, np.array([3, 4]) / 5
    assert np.allclose(row, np.hstack([meaning, looks]) * 0.5**0.5, atol=1e-6)


def test_classes_below_the_top_take_no_part() -> None:
    logits = np.array([[1.0, 0.9, 0.0]], dtype=np.float32)
    row = tiny_space(top=1).pictures(np.zeros((1, 2), np.float32), logits)[0]
    assert np.allclose(row[:2], [0.5**0.5, 0], atol=1e-6)


def test_a_text_guesses_its_looks() -> None:
    row = tiny_space().texts(np.array([[0.6, 0.8]], dtype=np.float32))[0]
    assert np.allclose(row[:2], np.array([0.6, 0.8]) * 0.8**0.5, atol=1e-6)
    assert np.allclose(row[2:], np.array([0.8, 0.6]) * 0.2**0.5, atol=1e-6)


def test_shipped_weights_match_the_manifest() -> None:
    weights = Weights()
    shipped = {p.name for p in FOLDER.iterdir() if p.is_file()} - {"manifest.json", "__init__.py"}
    assert set(weights.files) == shipped
    for name, stated in weights.files.items():
        content = (FOLDER / name).read_bytes()
        assert len(content) == stated["bytes"]
        assert hashlib.sha256(content).hexdigest() == stated["sha256"]
        assert stated["origin"]
        assert stated["licence"]
    assert sum(stated["bytes"] for stated in weights.files.values()) < 124e6


def vision_session(**settings: str) -> Any:
    """Open the shipped vision tower with settings of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, value in settings.items():
        options.add_session_config_entry(f"session.{name}", value)
    return onnxruntime.InferenceSession(Weights().read("vision.onnx"), options)


def test_the_quantised_tower_computes_the_same_with_sums_of_16_and_of_32_bits() -> None:
    # Without VNNI, a CPU adds products in 16 bits unless a setting makes it precise.
    pixels = np.stack([pixels_of(photo(name)) for name in PHOTOS])
    fast, precise = (
        vision_session(x64quantprecision=value).run(["pooled"], {"pixels": pixels})[0]
        for value in ("0", "1")
    )
    assert np.array_equal(fast, precise)


def test_a_picture_has_the_same_features_alone_and_in_a_batch() -> None:
    pixels = np.stack([pixels_of(photo(name)) for name in PHOTOS])
    session = vision_session()
    (together,) = session.run(["pooled"], {"pixels": pixels})
    alone = [session.run(["pooled"], {"pixels": one[None]})[0] for one in pixels]
    assert np.array_equal(np.concatenate(alone), together)


@pytest.fixture
def other_weights(tmp_path: Path) -> Path:
    """A folder with the same manifest and settings, in which the large files are links."""
    for path in FOLDER.iterdir():
        if path.suffix == ".json":
            shutil.copy(path, tmp_path)
        elif path.is_file():
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def test_changed_file_is_refused(other_weights: Path) -> None:
    content = (FOLDER / "space.npz").read_bytes()
    (other_weights / "space.npz").unlink()
    (other_weights / "space.npz").write_bytes(content[:-1] + b"?")
    with (
        MiniEmbedder(Weights(other_weights)) as embedder,
        pytest.raises(EmbedderUnavailable, match=r"space\.npz is not the file that was shipped"),
    ):
        embedder.embed([Content(text="cat")], role="query")


def test_a_missing_file_is_named(other_weights: Path) -> None:
    (other_weights / "settings.json").unlink()
    with pytest.raises(EmbedderUnavailable, match=r"settings\.json"):
        MiniEmbedder(Weights(other_weights))


def test_other_manifest_is_refused(other_weights: Path) -> None:
    manifest = other_weights / "manifest.json"
    manifest.write_text(json.dumps({"schema": 99, "files": {}}))
    with pytest.raises(EmbedderUnavailable, match="schema 99"):
        Weights(other_weights)
    manifest.unlink()
    with pytest.raises(EmbedderUnavailable, match="install the package again"):
        Weights(other_weights)


@pytest.mark.parametrize(
    "files", [None, [], {"space.npz": 3}, {"space.npz": {"sha256": 3, "in_revision": True}}]
)
def test_a_manifest_that_lists_no_sums_is_refused(other_weights: Path, files: object) -> None:
    (other_weights / "manifest.json").write_text(json.dumps({"schema": 1, "files": files}))
    with pytest.raises(EmbedderUnavailable, match="install the package again"):
        Weights(other_weights)


def test_revision_follows_what_changes_vectors(other_weights: Path) -> None:
    shipped = Weights().revision
    path = other_weights / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["settings.json"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert Weights(other_weights).revision == shipped
    manifest["files"]["space.npz"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert Weights(other_weights).revision != shipped


def test_opening_is_light_and_needs_no_torch() -> None:
    program = """
import sys
from embedder import Content, open_embedder
with open_embedder("mini") as embedder:
    assert not {"onnxruntime", "tokenizers", "torch"} & set(sys.modules), "loaded too early"
    embedder.embed([Content(text="cat")], role="query")
    assert "onnxruntime" in sys.modules
    assert not {"torch", "transformers"} & set(sys.modules), "torch was loaded"
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=FOLDER.parents[1],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def test_onnxruntime_sends_and_stores_no_usage_data(tmp_path) -> None:
    program = """
from embedder import Content, open_embedder
with open_embedder("mini") as embedder:
    embedder.embed([Content(text="cat")], role="query")
"""
    folders = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA")}
    subprocess.run(
        [sys.executable, "-c", program], cwd=FOLDER.parents[1], check=True, env=os.environ | folders
    )
    assert list(tmp_path.iterdir()) == [], "telemetry keeps its events and a device id there"
