"""Qwen3-VL-Embedding: vectors equal to those of transformers' own forward on published inputs.

transformers' processor reads videos with torchvision only, so the inputs are built here by the
formulae of the authors' script and of that processor; pictures go through transformers' own.
"""

import json
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from transformers import Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from embedder import Content, EmbedderUnavailable, Modality, open_embedder
from embedder.mllm.embedder import MllmEmbedder, open_mllm
from embedder.mllm.families import QWEN3_VL
from embedder.mllm.pictures import planned
from embedder.mllm.template import Template

LEAST_COSINE = 0.99999
TOKEN = 32 * 32  # pixels
DEFAULT = "Represent the user's input."
RETRIEVE = "Retrieve images or text relevant to the user's query."
SIZES = [(640, 480), (321, 777), (64, 48), (1500, 300), (980, 1260), (4000, 3000), (32, 32), (1, 1)]


def noise(seed: int, size: tuple[int, int] = (200, 120)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def clip(count: int, size: tuple[int, int] = (160, 96), **more: Any) -> Content:
    return Content(frames=[noise(seed, size) for seed in range(count)], modality="video", **more)


CONTENTS = {
    "text": Content(text="a dog on a beach"),
    "instructed": Content(text="a dog", instruction="  Find its picture "),
    "question": Content(text="a dog", instruction="Which picture shows it?"),
    "words in Chinese": Content(text="海滩上的狗", instruction="检索相关的图片。"),
    "no instruction": Content(text="a few words", instruction=""),
    "long text": Content(text="a few words to learn from " * 30),
    "picture": Content(frames=[noise(1)]),
    "upright picture": Content(frames=[noise(2, (70, 260))]),
    "small picture": Content(frames=[noise(3, (20, 12))]),
    "picture and words": Content("a caption", [noise(4)]),
    "page": Content(frames=[noise(5, (210, 297))], modality="page"),
    "several pictures": Content(frames=[noise(6), noise(7, (90, 90))], modality="page"),
    "video": clip(4),
    "video of one frame": clip(1),
    "video of an odd number": clip(5, times=(0, 0.7, 1.5, 2.25, 12.3)),
    "video with times": clip(6, (96, 160), times=(0, 2, 4, 6, 8, 10)),
    "video and words": Content("two seconds", clip(3).frames, "video"),
}


def sentence(instruction: str | None) -> str:
    """The instruction as the script changes it."""
    instruction = (instruction or "").strip()
    if instruction and not unicodedata.category(instruction[-1]).startswith("P"):
        instruction += "."
    return instruction or DEFAULT


def resized(frame: Image.Image, least: float, most: float) -> Image.Image:
    height, width = smart_resize(
        frame.height, frame.width, factor=32, min_pixels=least * TOKEN, max_pixels=most * TOKEN
    )
    return frame.resize((width, height))


@dataclass
class Inputs:
    """What transformers' model takes for one content."""

    text: str
    pictures: list[NDArray[np.float32]]
    picture_grids: list[list[int]]
    videos: list[NDArray[np.float32]]
    video_grids: list[list[int]]


def inputs_of(content: Content) -> Inputs:
    video = content.modality is Modality.VIDEO
    seen, found = "", Inputs("", [], [], [], [])
    if video:
        patches, grid, times = video_of(content)
        found.videos, found.video_grids = [patches], [grid]
        pads = "<|video_pad|>" * (grid[1] * grid[2] // 4)
        seen = "".join(f"<{t:.1f} seconds><|vision_start|>{pads}<|vision_end|>" for t in times)
    else:
        processor = Qwen2VLImageProcessorPil(
            patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_resize=False
        )
        for frame in content.frames:
            made = processor(resized(frame, 4, 1800), return_tensors="np")
            found.pictures.append(made["pixel_values"])
            found.picture_grids += made["image_grid_thw"].tolist()
            pads = "<|image_pad|>" * (found.picture_grids[-1][1] * found.picture_grids[-1][2] // 4)
            seen += f"<|vision_start|>{pads}<|vision_end|>"
    said = content.text or ("" if seen else "NULL")
    found.text = (
        f"<|im_start|>system\n{sentence(content.instruction)}<|im_end|>\n"
        f"<|im_start|>user\n{seen}{said}<|im_end|>\n<|im_start|>assistant\n"
    )
    return found


def video_of(content: Content) -> tuple[NDArray[np.float32], list[int], list[float]]:
    """Patches of transformers' video processor, their grid, and the time of each pair."""
    frames, times = list(content.frames), list(content.times)
    if len(frames) % 2:
        frames, times = [*frames, frames[-1]], [*times, *times[-1:]]
    times = times or [i / 2 for i in range(len(frames))]
    most = min(768, 7680 * 2 / len(frames))
    made = np.stack([np.asarray(resized(frame, 128, most)) for frame in frames]) / 127.5 - 1
    count, height, width, _ = made.shape
    grid = [count // 2, height // 16, width // 16]
    shape = (grid[0], 2, grid[1] // 2, 2, 16, grid[2] // 2, 2, 16, 3)
    patches = made.reshape(shape).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    pairs = [(times[i] + times[i + 1]) / 2 for i in range(0, count, 2)]
    return patches.reshape(-1, 3 * 2 * 16 * 16).astype(np.float32), grid, pairs


def reference(folder: Path, contents: Sequence[Content]) -> NDArray[np.float32]:
    """One padded batch through transformers, and the last attended state of each row."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = Qwen3VLModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    made = [inputs_of(content) for content in contents]
    rows = [tokenizer.encode(one.text).ids for one in made]
    ids = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(rows):
        ids[row, : len(one)], mask[row, : len(one)] = torch.tensor(one), 1
    kinds = (ids == model.config.image_token_id) + 2 * (ids == model.config.video_token_id)
    more = {}
    for name, patches, grids in (
        ("", *zip(*((one.pictures, one.picture_grids) for one in made), strict=True)),
        ("_videos", *zip(*((one.videos, one.video_grids) for one in made), strict=True)),
    ):
        if any(grids):
            more[f"pixel_values{name}"] = torch.from_numpy(np.concatenate(sum(patches, [])))
            more[f"{'video' if name else 'image'}_grid_thw"] = torch.tensor(sum(grids, []))
    with torch.inference_mode():
        states = model(
            input_ids=ids, attention_mask=mask, mm_token_type_ids=kinds.int(), **more
        ).last_hidden_state
    last = states[torch.arange(len(rows)), mask.sum(1) - 1]
    return torch.nn.functional.normalize(last, dim=-1).numpy()


@pytest.fixture(scope="module")
def ended(tiny_qwen3_vl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint with a tokenizer that ends texts, as that of Qwen3-Embedding does."""
    folder = shutil.copytree(tiny_qwen3_vl, tmp_path_factory.mktemp("ended") / "copy")
    path = folder / "tokenizer.json"
    stated = json.loads(path.read_text())
    end = {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
    stated["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": end},
    }
    path.write_text(json.dumps(stated))
    return folder


@pytest.fixture(scope="module")
def embedder(ended: Path) -> Iterator[MllmEmbedder]:
    with open_mllm(QWEN3_VL, str(ended), device="cpu", dtype="float32") as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(ended: Path) -> NDArray[np.float32]:
    return reference(ended, list(CONTENTS.values()))


def test_batch_has_the_vectors_of_transformers(
    embedder: MllmEmbedder, expected: NDArray[np.float32]
):
    cosines = (embedder.embed(list(CONTENTS.values()), role="document") * expected).sum(axis=1)
    assert dict(zip(CONTENTS, cosines >= LEAST_COSINE, strict=True)) == dict.fromkeys(
        CONTENTS, True
    )


def test_each_content_alone_has_them_too(embedder: MllmEmbedder, expected: NDArray[np.float32]):
    for content, row in zip(CONTENTS.values(), expected, strict=True):
        assert embedder.embed([content], role="document")[0] @ row >= LEAST_COSINE


@pytest.mark.parametrize("tokens", [(4, 1800), (128, 768), (128, 7680 / 31)])
@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_resized_once_and_as_published(size: tuple[int, int], tokens: Any):
    least, most = tokens
    height, width = smart_resize(
        size[1], size[0], factor=32, min_pixels=least * TOKEN, max_pixels=most * TOKEN
    )
    plan = planned(size, tokens, QWEN3_VL.patch_side, QWEN3_VL.first_step)
    assert (plan.first, plan.final) == (size, (width, height))
    assert plan.tokens == width * height // TOKEN


@pytest.fixture(scope="module")
def template(ended: Path) -> Template:
    tokenizer = Tokenizer.from_file(str(ended / "tokenizer.json"))
    return Template(tokenizer, QWEN3_VL.settings, QWEN3_VL)


def published(folder: Path, system: str, said: str) -> list[int]:
    """The published template as one string, tokenized with its special tokens."""
    whole = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{said}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(whole).ids
    return ids


def test_tokenizer_says_how_a_text_ends(template: Template, ended: Path, tiny_qwen3_vl: Path):
    ids = published(ended, DEFAULT, "a dog")
    assert template.sequence(Content(text="a dog"), "document").ids.tolist() == ids
    plain = Template(
        Tokenizer.from_file(str(tiny_qwen3_vl / "tokenizer.json")), QWEN3_VL.settings, QWEN3_VL
    )
    assert plain.sequence(Content(text="a dog"), "document").ids.tolist() == ids[:-1]


def test_words_that_search_get_the_instruction_of_a_query(template: Template, ended: Path):
    found = template.sequence(Content(text="a dog"), "query").ids.tolist()
    assert found == published(ended, RETRIEVE, "a dog")
    # A picture that searches is embedded as a document is: its copies have a cosine of 1.
    picture = Content(frames=[noise(1)])
    query, document = (template.sequence(picture, role).ids for role in ("query", "document"))
    assert np.array_equal(query, document)


def test_an_empty_user_turn_says_so():
    parts = QWEN3_VL.layout(QWEN3_VL.settings, [], "", "")
    assert "NULL" in parts


def test_positions_are_those_of_transformers(template: Template, ended: Path):
    content = clip(5, times=range(5))
    found = template.sequence(content, "document")
    model = Qwen3VLModel.from_pretrained(ended)
    grids = torch.tensor([[1, *picture.plan.grid] for picture in found.pictures])
    ids = torch.from_numpy(found.ids)[None]
    kinds = (ids == model.config.image_token_id).int()
    expected, _ = model.get_rope_index(ids, kinds, image_grid_thw=grids)
    assert np.array_equal(found.positions("mrope"), expected[:, 0].numpy())


def test_many_frames_are_thinned_out_and_smaller(template: Template):
    frames = [Image.new("RGB", (800, 600), (i, 0, 0)) for i in range(100)]
    found = template.sequence(Content(frames=frames, times=range(100)), "document")
    reds = [frame.getpixel((0, 0))[0] for picture in found.pictures for frame in picture.frames]
    assert reds == np.linspace(0, 99, 64, dtype=int).tolist()
    assert [picture.time for picture in found.pictures[:2]] == [0.5, 3.5]
    assert len(found.pictures) == 32
    assert 7000 < sum(picture.plan.tokens for picture in found.pictures) <= 7680
    assert len(found) <= 8192
    assert not found.reduced


def test_long_text_is_cut_before_the_end_of_the_template(template: Template):
    long, short = (
        template.sequence(Content(text="word " * count), "document") for count in (9000, 1)
    )
    assert 8180 < len(long) <= 8192
    assert long.ids[-8:].tolist() == short.ids[-8:].tolist()
    assert "characters of its text are read" in long.reduced


def test_vectors_can_be_cut_by_the_settings(ended: Path, tmp_path: Path, embedder: MllmEmbedder):
    folder = shutil.copytree(ended, tmp_path / "copy")
    (folder / "qwen3-vl.json").write_text('{"dim": 16}')
    content = [Content(text="a dog")]
    with open_embedder(f"qwen3-vl:{folder}") as shorter:
        assert shorter.info.dim == 16
        assert shorter.info.fingerprint != embedder.info.fingerprint
        cut = embedder.embed(content, "document")[0, :16]
        row = shorter.embed(content, "document")[0]
        assert row @ cut / np.linalg.norm(cut) >= LEAST_COSINE
    (folder / "rzen.json").write_text('{"dim": "x"}')  # another family's
    with open_embedder(f"qwen3-vl:{folder}"):
        pass


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("rzen", "'qwen3_vl', but RzenEmbed is a 'qwen2_vl'"),
        ("qwen3-vl", "'qwen2_vl', but Qwen3-VL-Embedding is"),
    ],
)
def test_another_architecture_is_refused(
    tiny_rzen: Path, tiny_qwen3_vl: Path, family: str, expected: str
):
    folder = tiny_qwen3_vl if family == "rzen" else tiny_rzen
    with pytest.raises(EmbedderUnavailable, match=expected):
        open_embedder(f"{family}:{folder}")


def test_another_side_of_patches_is_refused(tiny_qwen3_vl: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_qwen3_vl, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["patch_size"] = 14
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EmbedderUnavailable, match="patch_size 14, not 16"):
        open_embedder(f"qwen3-vl:{folder}")


def test_missing_tensors_are_named(tiny_qwen3_vl: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_qwen3_vl, tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if "deepstack_merger_list.0" in name)
    save_file({n: t for n, t in tensors.items() if n != gone}, folder / "model.safetensors")
    with (
        open_embedder(f"qwen3-vl:{folder}") as opened,
        pytest.raises(EmbedderUnavailable, match=r"1 tensors are missing.*deepstack_merger_list"),
    ):
        opened.embed([Content(text="x")], "query")


def test_another_tokenizer_is_refused(tiny_qwen3_vl: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_qwen3_vl, tmp_path / "copy")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<|vision_start|>", "<|other|>"))
    with (
        open_embedder(f"qwen3-vl:{folder}") as opened,
        pytest.raises(EmbedderUnavailable, match=r"that of Qwen3-VL-Embedding.*vision_start"),
    ):
        opened.embed([Content(text="x")], "query")


def test_weights_on_the_hub_have_names():
    models = [QWEN3_VL.hub_model(name) for name in ("", "2b", "8b")]
    assert [model.repository[-2:] for model in models if model] == ["2B", "2B", "8B"]
    with pytest.raises(EmbedderUnavailable, match=r"Qwen/Qwen3-VL-Embedding-8B are not on this"):
        open_embedder("qwen3-vl:8b")
