"""Families of multimodal language models that embed: what their checkpoints have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from embedder.hub import HUB_ID, HubFile, HubModel
from embedder.mllm.pictures import Picture
from embedder.mllm.settings import Settings

FILES = (
    HubFile("config.json"),
    HubFile("*.json"),
    HubFile("*.safetensors"),
    HubFile("merges.txt", optional=True),
)
"""Of a repository, those that a checkpoint needs."""


class Special(Enum):
    """Special tokens of Qwen's tokenizers."""

    IM_START = "<|im_start|>"
    IM_END = "<|im_end|>"
    END_OF_TEXT = "<|endoftext|>"
    VISION_START = "<|vision_start|>"
    VISION_END = "<|vision_end|>"
    IMAGE_PAD = "<|image_pad|>"


Part: TypeAlias = str | Special | Picture
"""Of a sequence: a text, a special token, or the tokens of a picture."""

Layout: TypeAlias = Callable[[Settings, Sequence[Picture], str, str], list[Part]]
"""Arranges settings, pictures, an instruction and words."""


@dataclass(frozen=True, slots=True)
class Family:
    """What embedding models on one kind of multimodal language model have in common.

    Attributes:
        name: What their specifications begin with; their settings are in a JSON file of this name.
        title: Their name for people.
        models: Named ones, by what follows the family and a colon; empty for the default.
        model_type: Their architecture, as config.json names it.
        model_class: The class of transformers that computes it.
        patch_side: Of a patch of a picture, in pixels.
        first_step: Tokens, minimum and maximum, to which a picture is resized first; None where it
            is resized once.
        mean: Mean of the pictures they were trained on, by channel, where
            preprocessor_config.json does not say.
        std: Their standard deviation.
        settings: Those of a checkpoint without a file of settings.
        layout: Arranges a sequence.
    """

    name: str
    title: str
    models: Mapping[str, HubModel]
    model_type: str
    model_class: str
    patch_side: int
    first_step: tuple[int, int] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    settings: Settings
    layout: Layout

    @property
    def settings_file(self) -> str:
        """The name of the file of settings beside a checkpoint's weights."""
        return f"{self.name}.json"

    def hub_model(self, argument: str) -> HubModel | None:
        """Return what the model that an argument names is on the hub; None for a folder."""
        if argument in self.models:
            return self.models[argument]
        if HUB_ID.fullmatch(argument) and not Path(argument).exists():
            return HubModel(argument, FILES)
        return None


def _rzen_layout(
    settings: Settings, pictures: Sequence[Picture], instruction: str, words: str
) -> list[Part]:
    r"""Arrange a sequence as the released inference script of arXiv 2510.27350 does.

        <|im_start|>system\n{SYSTEM}<|im_end|>\n
        <|im_start|>user\n{VISION}{INSTRUCTION}{TEXT}{PROMPT}<|im_end|>\n
        <|im_start|>assistant\n<|endoftext|>

    VISION is `<|vision_start|><|image_pad|>…<|vision_end|>` for each picture or frame; instruction,
    text and prompt are joined with nothing between.
    """
    prompt = settings.visual_prompt if pictures else settings.text_prompt
    vision = [
        part for picture in pictures for part in (Special.VISION_START, picture, Special.VISION_END)
    ]
    return [
        *(Special.IM_START, f"system\n{settings.system}", Special.IM_END, "\n"),
        *(Special.IM_START, "user\n", *vision, f"{instruction}{words}{prompt}"),
        *(Special.IM_END, "\n", Special.IM_START, "assistant\n", Special.END_OF_TEXT),
    ]


RZEN = Family(
    name="rzen",
    title="RzenEmbed",
    models={
        "": HubModel(
            "qihoo360/RzenEmbed",  # what the authors of arXiv 2510.27350 published
            FILES,
            summary="things, people, text in pictures and pages, the most exactly",
            speed="for a GPU",
        )
    },
    model_type="qwen2_vl",
    model_class="Qwen2VLModel",
    patch_side=14,
    first_step=(4, 16_384),
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    settings=Settings(),
    layout=_rzen_layout,
)
"""RzenEmbed on Qwen2-VL."""

FAMILIES: Mapping[str, Family] = {family.name: family for family in (RZEN,)}
"""Every family by its name."""
