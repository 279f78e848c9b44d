"""SigLIP 2 and CLIP: vectors as transformers computes them, rows of two parts.

The checkpoints in tests/dual have random weights, so nothing here says how well a model finds.
"""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedder import Calibration, Content, EmbedderUnavailable, Modality, open_embedder
from embedder.dual.checkpoint import Checkpoint
from embedder.dual.embedder import DualEmbedder, calibrations
from embedder.dual.families import CLIP, SIGLIP2, Family, sigmoid_calibration
from embedder.dual.towers import TextTower, VisionTower, pixels_of
from embedder.interface import Vectors
from embedder.mini.embedder import Weights, open_sentences
from embedder.onnx_runtime import execution_providers, open_session

DATA = Path(__file__).with_name("dual")
CASES = json.loads((DATA / "cases.json").read_text("utf-8"))
FAMILIES = (SIGLIP2, CLIP)
TOLERANCE = 1e-5
CPU = "CPUExecutionProvider"

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.name))


def photos() -> list[Image.Image]:
    files = [DATA.parent / "media" / f"{name}.jpg" for name in CASES["photos"]]
    opened = [Image.open(file).convert("RGB") for file in files]
    return [*opened, *(image.resize((130, 37)) for image in opened[:2])]


def expected(family: Family) -> tuple[Vectors, Vectors]:
    """Return the vectors of transformers: photos and texts."""
    with np.load(DATA / "expected.npz") as file:
        return file[f"{family.name}_pictures"], file[f"{family.name}_texts"]


def checkpoint(family: Family) -> Checkpoint:
    return Checkpoint.find(family, str(DATA / family.name))


def saw(given: Checkpoint, frames: list[Image.Image] | None = None) -> Vectors:
    return VisionTower(given, "cpu", 1).embed(frames or photos())


def read(given: Checkpoint) -> Vectors:
    return TextTower(given, "cpu", 1).embed(CASES["texts"])


def distance(one: Vectors, other: Vectors) -> float:
    return float(np.abs(one - other).max())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a SigLIP 2, to damage."""
    return Path(shutil.copytree(DATA / "siglip2", tmp_path / "copy"))


@each_family
def test_vectors_are_those_of_transformers_in_any_batch(family: Family) -> None:
    pictures = [Content(frames=[image]) for image in photos()]
    texts = [Content(text=text) for text in CASES["texts"]]
    seen, said = expected(family)
    with open_embedder(f"{family.name}:{DATA / family.name}") as embedder:
        documents = embedder.embed(pictures, role="document")
        alone = [embedder.embed([text], role="query")[0] for text in texts]
        together = embedder.embed(texts[::-1], role="query")[::-1]
        mixed = embedder.embed([texts[0], pictures[1], texts[2]], role="query")
    half = math.sqrt(0.5)
    assert distance(together @ documents.T, half * said @ seen.T) < TOLERANCE
    assert distance(np.stack(alone), together) < TOLERANCE
    assert distance(documents @ documents.T, seen @ seen.T) < TOLERANCE
    assert distance(mixed, np.stack([together[0], documents[1], together[2]])) < TOLERANCE


def resized(**changes: Any) -> Callable[[Checkpoint], Vectors]:
    return lambda given: saw(replace(given, resizing=replace(given.resizing, **changes)))


def tokenized(**changes: Any) -> Callable[[Checkpoint], Vectors]:
    return lambda given: read(replace(given, family=replace(given.family, **changes)))


def scaled_before(factor: int) -> Callable[[Checkpoint], Vectors]:
    def saw_scaled(given: Checkpoint) -> Vectors:
        side = factor * given.resizing.side
        return saw(given, [image.resize((side, side)) for image in photos()])

    return saw_scaled


@pytest.mark.parametrize(
    ("family", "side", "fault"),
    [
        (SIGLIP2, 0, resized(resample=Image.Resampling.BICUBIC)),
        (SIGLIP2, 0, resized(resample=Image.Resampling.NEAREST)),
        (SIGLIP2, 0, resized(crop=True)),
        (SIGLIP2, 0, resized(mean=(0.48145466, 0.4578275, 0.40821073))),
        (SIGLIP2, 0, scaled_before(2)),
        (SIGLIP2, 1, tokenized(lower_case=False)),
        (SIGLIP2, 1, tokenized(padding=None)),
        (SIGLIP2, 1, tokenized(padding="<eos>")),
        (SIGLIP2, 1, lambda given: read(replace(given, length=63))),
        (CLIP, 0, resized(resample=Image.Resampling.BILINEAR)),
        (CLIP, 0, resized(resample=Image.Resampling.NEAREST)),
        (CLIP, 0, resized(crop=False)),
        (CLIP, 0, resized(mean=(0.5, 0.5, 0.5))),
        (CLIP, 0, scaled_before(2)),
        (CLIP, 1, lambda given: read(replace(given, length=76))),
    ],
)
def test_faults_of_other_implementations_would_show(
    family: Family, side: int, fault: Callable[[Checkpoint], Vectors]
) -> None:
    assert distance(fault(checkpoint(family)), expected(family)[side]) > 100 * TOLERANCE


def test_long_text_keeps_the_token_at_its_end() -> None:
    for family, end in ((SIGLIP2, "<eos>"), (CLIP, "<|endoftext|>")):
        tokenizer = checkpoint(family).tokenizer()
        encoding = tokenizer.encode("word " * 200)
        assert len(encoding.ids) == family.length
        assert encoding.tokens[-1] == end


@each_family
def test_frame_is_large_enough_to_be_resized_as_published(family: Family) -> None:
    given = checkpoint(family)
    for side in (32, 224, 256, 384):
        large = replace(given, resizing=replace(given.resizing, side=side))
        assert DualEmbedder(large).info.frame_side >= 4 * side


def test_cropping_is_resizing_all_and_cutting_its_middle() -> None:
    resizing = checkpoint(CLIP).resizing
    photo = photos()[0].resize((513, 301))
    whole = photo.resize((int(32 * 513 / 301), 32), Image.Resampling.BICUBIC)
    middle = np.asarray(whole.crop((11, 0, 43, 32)), dtype=np.float32) / 255
    wanted = (middle - np.float32(resizing.mean)) / np.float32(resizing.std)
    assert distance(pixels_of(photo, resizing), wanted.transpose(2, 0, 1)) < 1e-6


def test_middle_of_a_very_long_picture_is_seen_at_little_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda image, size, *how: sizes.append(size) or resize(image, size, *how),
    )
    resizing = replace(checkpoint(CLIP).resizing, side=224)
    long = Image.new("RGB", (2_000, 2), "red")
    long.paste((0, 0, 255), (990, 0, 1_010, 2))
    pixels = pixels_of(long, resizing)
    assert max(max(size) for size in sizes) <= 16 * 224
    assert pixels.shape == (3, 224, 224)
    assert (pixels[2] > pixels[0]).all()


class Session:
    """Stands in for a session: notes what it is given, and answers with rows of ones."""

    def __init__(self, *inputs: str, provider: str = CPU, number: str = "float") -> None:
        self.inputs, self.provider, self.number = inputs, provider, number
        self.given: list[dict[str, np.ndarray]] = []

    def run(self, _names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.given.append(given)
        return [np.ones((len(next(iter(given.values()))), 32), dtype=np.float32)]

    def get_inputs(self) -> list[Any]:
        return [Node(name, [None, None], self.number) for name in self.inputs]

    def get_outputs(self) -> list[Any]:
        return [Node("pooler_output", [None, 32], self.number)]

    def get_providers(self) -> list[str]:
        return [self.provider, CPU]


class Node:
    def __init__(self, name: str, shape: list[Any], number: str) -> None:
        self.name, self.shape, self.type = name, shape, f"tensor({number})"


def test_each_content_runs_alone_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    vision, text = Session("pixel_values"), Session("input_ids")
    sessions = {"vision_model.onnx": vision, "text_model.onnx": text}
    monkeypatch.setattr(Checkpoint, "session", lambda _self, path, _device: sessions[path.name])
    saw(checkpoint(SIGLIP2))
    read(checkpoint(SIGLIP2))
    assert [given["pixel_values"].shape[0] for given in vision.given] == [1] * len(photos())
    assert [given["input_ids"].shape for given in text.given] == [(1, 64)] * len(CASES["texts"])


@pytest.mark.parametrize(("precision", "batches"), [("", [6]), ("_fp16", [6]), ("_int8", [1] * 6)])
def test_accelerator_runs_batches_unless_the_model_is_quantised(
    folder: Path, monkeypatch: pytest.MonkeyPatch, precision: str, batches: list[int]
) -> None:
    model = folder / "onnx/vision_model.onnx"
    model.rename(model.with_stem(model.stem + precision))
    vision = Session("pixel_values", provider="CUDAExecutionProvider", number="float16")
    monkeypatch.setattr(Checkpoint, "session", lambda _self, _path, _device: vision)
    rows = saw(Checkpoint.find(SIGLIP2, str(folder)))
    assert rows.dtype == np.float32
    assert [given["pixel_values"].shape[0] for given in vision.given] == batches
    assert vision.given[0]["pixel_values"].dtype == np.float16


def test_mask_hides_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Session("input_ids", "attention_mask")
    monkeypatch.setattr(Checkpoint, "session", lambda _self, _path, _device: text)
    read(checkpoint(SIGLIP2))
    assert all((given["attention_mask"] == np.ones((1, 64))).all() for given in text.given)


def test_rows_have_a_part_for_words_and_one_for_looks() -> None:
    photo, passage = photos()[0], "Interest accrues on unpaid tax. " * 60
    with open_embedder(f"siglip2:{DATA / 'siglip2'}") as embedder:
        seen, said, page, both = embedder.embed(
            [
                Content(frames=[photo]),
                Content(text=passage),
                Content(passage, [photo], "page"),
                Content("a caption", [photo, photo]),
            ],
            role="document",
        )
        query, picture = embedder.embed(
            [Content(text="when is tax due?"), Content(frames=[photo])], role="query"
        )
    sentences = open_sentences(Weights(), 1).embed(["when is tax due?", passage])
    half = math.sqrt(0.5)
    assert seen @ said == 0
    assert seen @ picture == pytest.approx(1, abs=1e-5)
    assert query @ said == pytest.approx(half * float(sentences[0] @ sentences[1]), abs=1e-5)
    assert query @ page == pytest.approx(half * (query @ said + query @ seen), abs=1e-5)
    assert seen @ page == pytest.approx(half, abs=1e-5)
    assert seen @ both == pytest.approx(half, abs=1e-5)


@pytest.mark.parametrize("text", ["*", "asdkjh qwezxc", "\ud800"])
def test_what_the_sentence_encoder_does_not_understand_is_compared_by_looks(text: str) -> None:
    photo = photos()[0]
    with open_embedder(f"siglip2:{DATA / 'siglip2'}") as embedder:
        query, understood = embedder.embed([Content(text=text), Content(text="cat")], role="query")
        passage, other, seen = embedder.embed(
            [Content(text=text), Content(text="tax law"), Content(frames=[photo])], role="document"
        )
        looks = TextTower(checkpoint(SIGLIP2), "cpu", 1).embed([text])[0]
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    assert not passage.any()
    assert abs(query @ other) < 0.15
    assert query @ seen == pytest.approx(math.sqrt(0.5) * float(looks @ seen[384:]), abs=1e-5)
    assert np.linalg.norm(understood[:384]) == pytest.approx(math.sqrt(0.5), abs=1e-5)


@each_family
def test_clip_lies_at_the_mean_of_its_frames(family: Family) -> None:
    first, second = photos()[:2]
    with open_embedder(f"{family.name}:{DATA / family.name}") as embedder:
        *frames, clip = embedder.embed(
            [Content(frames=one) for one in ([first], [second], [first, second])], role="document"
        )
    mean = (frames[0] + frames[1]) / 2
    assert distance(clip, mean / np.linalg.norm(mean)) < TOLERANCE


def test_models_load_when_they_are_needed(folder: Path) -> None:
    with open_embedder(f"siglip2:{folder}") as embedder:
        (folder / "onnx/vision_model.onnx").write_bytes(b"damaged")
        (folder / "onnx/text_model.onnx").write_bytes(b"damaged")
        words = Content(text="words")
        assert embedder.embed([words], role="document").shape == (1, 384 + 32)
        with pytest.raises(EmbedderUnavailable, match=r"text_model\.onnx is damaged"):
            embedder.embed([words], role="query")
        with pytest.raises(EmbedderUnavailable, match=r"vision_model\.onnx is damaged"):
            embedder.embed([Content(frames=photos()[:1])], role="query")


def test_opening_is_light_and_needs_no_torch() -> None:
    program = f"""
import sys
from PIL import Image
from embedder import Content, open_embedder
with open_embedder("siglip2:{DATA / "siglip2"}") as embedder:
    assert not {{"onnxruntime", "tokenizers", "torch"}} & set(sys.modules), "loaded too early"
    embedder.embed([Content(text="cat"), Content(frames=[Image.new("RGB", (9, 9))])], role="query")
    assert not {{"torch", "transformers"}} & set(sys.modules), "torch was loaded"
"""
    subprocess.run([sys.executable, "-c", program], cwd=DATA.parents[1], check=True)


def probability(calibration: Calibration, product: float) -> float:
    return float(1 / (1 + np.exp(-calibration.logit(np.array(product, dtype=np.float32)))))


@pytest.mark.parametrize(("logit", "wanted"), [(-1.60, 0.997), (-10.72, 0.037)])
def test_published_logits_become_probabilities_of_a_search(logit: float, wanted: float) -> None:
    """The photo of two cats in the example of transformers.js: "2 cats" and "2 dogs"."""
    scale, bias = 117.33, -12.93
    calibration = sigmoid_calibration(scale, bias)
    assert probability(calibration, (logit - bias) / scale) == pytest.approx(wanted, abs=0.002)


def test_constants_of_siglip_are_those_of_its_checkpoints() -> None:
    assert SIGLIP2.likeness[""].midpoint == pytest.approx(0.0827, abs=1e-4)
    assert SIGLIP2.likeness["so400m"].midpoint == pytest.approx(0.0772, abs=1e-4)


def test_products_of_rows_are_calibrated_like_cosines() -> None:
    found = calibrations(SIGLIP2.likeness[""])
    text, image, page = Modality.TEXT, Modality.IMAGE, Modality.PAGE
    half = math.sqrt(0.5)
    likeness = found[text, image]
    assert probability(likeness, half * 0.13) > 0.95
    assert probability(likeness, half * 0.04) < 0.05
    near = likeness.logit(np.array([0.1200, 0.1201], dtype=np.float32))
    assert near[0] < near[1]
    assert probability(found[text, text], half * 0.6) > 0.95
    assert probability(found[text, text], half * 0.2) < 0.05
    assert probability(found[text, page], 0.5 * (0.6 + 0.02)) > 0.95
    assert probability(found[text, page], 0.5 * (0.2 + 0.02)) < 0.1


def test_pairs_without_known_constants_are_not_calibrated() -> None:
    with open_embedder(f"clip:{DATA / 'clip'}") as clip:
        assert set(clip.info.calibration) == {(Modality.TEXT, Modality.TEXT)}
    with open_embedder(f"siglip2:{DATA / 'siglip2'}") as siglip2:
        assert (Modality.IMAGE, Modality.IMAGE) not in siglip2.info.calibration


@pytest.mark.parametrize(
    ("device", "installed", "wanted"),
    [
        (None, [], [CPU]),
        (None, ["CUDAExecutionProvider"], ["CUDAExecutionProvider", CPU]),
        (None, ["CoreMLExecutionProvider"], ["CoreMLExecutionProvider", CPU]),
        ("cpu", ["CUDAExecutionProvider"], [CPU]),
        ("cuda", ["CUDAExecutionProvider"], ["CUDAExecutionProvider", CPU]),
        (
            "cuda:1",
            ["CUDAExecutionProvider"],
            [("CUDAExecutionProvider", {"device_id": "1"}), CPU],
        ),
        ("mps", ["CoreMLExecutionProvider"], ["CoreMLExecutionProvider", CPU]),
    ],
)
def test_device_chooses_the_execution_provider(
    device: str | None, installed: list[str], wanted: list[object]
) -> None:
    assert execution_providers(device, [*installed, "AzureExecutionProvider", CPU]) == wanted


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:x", "tpu"])
def test_device_that_onnxruntime_lacks_is_refused(device: str) -> None:
    with pytest.raises(EmbedderUnavailable, match=f"cannot run on '{device}': use --device cpu"):
        execution_providers(device, [CPU])


def test_int8_is_precise_on_cpus_without_vnni() -> None:
    session = open_session(DATA / "siglip2/onnx/vision_model.onnx")
    setting = session.get_session_options().get_session_config_entry("session.x64quantprecision")
    assert setting == "1"
