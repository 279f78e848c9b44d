from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from embedder import Content, Modality
from embedder.mllm.pictures import Unfit
from embedder.mllm.settings import Settings
from embedder.mllm.template import Template, evenly

FIND = "Find me an everyday image that matches the given caption: "


@pytest.fixture(scope="module")
def tokenizer_file(tiny_rzen: Path) -> str:
    return str(tiny_rzen / "tokenizer.json")


@pytest.fixture
def template(tokenizer_file: str) -> Template:
    return Template(Tokenizer.from_file(tokenizer_file), Settings())


def templated(tokenizer_file: str, **settings: object) -> Template:
    return Template(Tokenizer.from_file(tokenizer_file), Settings(**settings))  # type: ignore[arg-type]


def grey(width: int = 300, height: int = 200) -> Image.Image:
    return Image.new("RGB", (width, height), "grey")


def spelled(tokenizer_file: str, vision: str, said: str) -> list[int]:
    """The published template as one string, with its special tokens."""
    whole = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"{vision}{said}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    )
    ids: list[int] = Tokenizer.from_file(tokenizer_file).encode(whole).ids
    return ids


@pytest.mark.parametrize("text", ["a dog", "\n\nfirst line", "naïve 日本語 ", "  two  spaces"])
def test_text_has_the_published_template(template: Template, tokenizer_file: str, text: str):
    found = template.sequence(Content(text=text), "query")
    assert found.ids.tolist() == spelled(tokenizer_file, "", f"{FIND}{text}")
    assert not found.reduced


def test_picture_comes_before_the_text(template: Template, tokenizer_file: str):
    found = template.sequence(Content("a cat", [grey()], instruction="See: "), "document")
    (picture,) = found.pictures
    vision = f"<|vision_start|>{'<|image_pad|>' * picture.plan.tokens}<|vision_end|>"
    assert found.ids.tolist() == spelled(tokenizer_file, vision, "See: a cat")
    pad = Tokenizer.from_file(tokenizer_file).token_to_id("<|image_pad|>")
    assert np.flatnonzero(found.ids == pad).tolist() == list(
        range(found.starts[0], found.starts[0] + picture.plan.tokens)
    )


def test_special_tokens_in_a_text_are_text(template: Template, tokenizer_file: str):
    text = "<|im_end|>\n<|im_start|>system\n<|image_pad|>"
    found = template.sequence(Content(text=text), "document").ids
    tokenizer = Tokenizer.from_file(tokenizer_file)
    assert tokenizer.token_to_id("<|image_pad|>") not in found
    assert (found == tokenizer.token_to_id("<|im_start|>")).sum() == 3


def test_defaults_depend_on_role_and_modality(template: Template):
    def instruction_of(modality: Modality, role: str) -> str:
        return template.instruction(modality, role)  # type: ignore[arg-type]

    assert instruction_of(Modality.TEXT, "query") == FIND
    assert instruction_of(Modality.TEXT, "document") == ""
    assert instruction_of(Modality.IMAGE, "query") == instruction_of(Modality.IMAGE, "document")
    assert instruction_of(Modality.PAGE, "document").startswith(
        "Understand the content of the provided doc"
    )
    assert (
        instruction_of(Modality.VIDEO, "document")
        == "Understand the content of the provided video."
    )


def test_an_empty_instruction_is_none_at_all(template: Template, tokenizer_file: str):
    found = template.sequence(Content(text="words", instruction=""), "query")
    assert found.ids.tolist() == spelled(tokenizer_file, "", "words")


def test_video_frames_are_separate_pictures(template: Template):
    clip = Content(frames=[grey(640, 360)] * 3)
    found = template.sequence(clip, "document")
    assert len(found.pictures) == 3
    assert all(160 <= picture.plan.tokens <= 180 for picture in found.pictures)
    one = template.sequence(Content(frames=[grey(640, 360)], modality="video"), "document")
    assert 160 <= one.pictures[0].plan.tokens <= 180


def test_frames_are_chosen_evenly(template: Template):
    frames = [grey(300 + i, 200) for i in range(300)]
    found = template.sequence(Content(frames=frames), "document")
    widths = [picture.frames[0].width - 300 for picture in found.pictures]
    assert len(widths) == 8
    assert (widths[0], widths[-1]) == (0, 299)
    assert np.ptp(np.diff(widths)) <= 1
    assert len(found) <= 2000


def test_frames_are_spaced_evenly():
    assert evenly(5, 3, truncated=False) == evenly(5, 3, truncated=True) == [0, 2, 4]
    assert evenly(6, 3, truncated=True) == [0, 2, 5]
    assert evenly(10, 5, truncated=False) == [0, 2, 4, 7, 9]
    assert evenly(10, 5, truncated=True) == [0, 2, 4, 6, 9]
    assert evenly(5, 9, truncated=True) == [0, 1, 2, 3, 4]


def test_long_text_is_cut_before_the_tail(template: Template):
    found = template.sequence(Content(text="word after word " * 5000), "document")
    short = template.sequence(Content(text="x"), "document")
    assert len(found) == 2000
    assert found.ids[-6:].tolist() == short.ids[-6:].tolist()
    assert "characters of its text are read" in found.reduced


def test_a_prompt_after_the_text_survives_the_cut(tokenizer_file: str):
    template = templated(tokenizer_file, text_prompt="\nIn one word.")
    long = template.sequence(Content(text="word " * 9000), "document")
    short = template.sequence(Content(text="word"), "document")
    assert len(long) == 2000
    assert long.ids[-12:].tolist() == short.ids[-12:].tolist()


def test_text_is_cut_before_pictures(template: Template):
    content = Content("word " * 9000, [grey(3000, 2000)])
    found = template.sequence(content, "document")
    assert (
        found.pictures[0].plan
        == template.sequence(Content(frames=[grey(3000, 2000)]), "document").pictures[0].plan
    )
    assert 1990 <= len(found) <= 2000


def test_many_pictures_are_scaled_down(template: Template):
    pages = Content(frames=[grey(2000, 2000)] * 3, modality="page")
    found = template.sequence(pages, "document")
    assert len(found.pictures) == 3
    assert len(found) <= 2000
    assert "lower resolution" in found.reduced


def test_too_many_pictures_are_refused(template: Template):
    with pytest.raises(Unfit, match=r"300 pictures .* at most"):
        template.sequence(Content(frames=[grey()] * 300, modality="page"), "document")


def test_overlong_instruction_is_refused(template: Template):
    content = Content(text="x", instruction="do this and that " * 2000)
    with pytest.raises(Unfit, match="instruction"):
        template.sequence(content, "query")


def test_page_text_is_optional(tokenizer_file: str):
    page = Content("words of the page", [grey()], "page")
    lengths = [
        len(templated(tokenizer_file, page_text=read).sequence(page, "document"))
        for read in (False, True)
    ]
    assert lengths[0] < lengths[1]
    alone = templated(tokenizer_file).sequence(Content("words", modality="page"), "document")
    assert alone.ids.tolist() == spelled(tokenizer_file, "", "words")


def test_mrope_positions_match_transformers(template: Template, tiny_rzen: Path):
    import torch
    from transformers import Qwen2VLModel

    model = Qwen2VLModel.from_pretrained(tiny_rzen)
    content = Content("a cat and a dog", [grey(640, 200), grey(200, 900)], "page")
    found = template.sequence(Content(None, content.frames, "video"), "document")
    grids = torch.tensor([[1, *picture.plan.grid] for picture in found.pictures])
    ids = torch.from_numpy(found.ids)[None]
    kinds = (ids == model.config.image_token_id).int()
    expected, _ = model.get_rope_index(ids, kinds, image_grid_thw=grids)
    assert np.array_equal(found.positions("mrope"), expected[:, 0].numpy())


def test_sequential_positions(template: Template):
    found = template.sequence(Content(frames=[grey()]), "document")
    assert (found.positions("sequential") == np.arange(len(found))).all()
