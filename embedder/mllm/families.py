"""Families of multimodal language models that embed: what their checkpoints have in common."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from embedder.content import Modality
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
        frame_pairs: Whether a video is read as pairs of frames, each after its time; otherwise,
            each frame is a picture.
        settings: Those of a checkpoint without a file of settings.
        layout: Arranges a sequence.
        tokenizer_ends: Whether the sequence ends with the special tokens that the tokenizer itself
            appends to a text, if any.
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
    frame_pairs: bool
    settings: Settings
    layout: Layout
    tokenizer_ends: bool

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


def conversation(system: str, user: Sequence[Part]) -> list[Part]:
    r"""Arrange a system prompt and a user's turn by the chat template of Qwen's models.

    <|im_start|>system\n{SYSTEM}<|im_end|>\n
    <|im_start|>user\n{USER}<|im_end|>\n
    <|im_start|>assistant\n
    """
    return [
        *(Special.IM_START, f"system\n{system}", Special.IM_END, "\n"),
        *(Special.IM_START, "user\n", *user, Special.IM_END, "\n"),
        *(Special.IM_START, "assistant\n"),
    ]


def vision(pictures: Sequence[Picture]) -> list[Part]:
    """Return `<|vision_start|><|image_pad|>…<|vision_end|>` for each picture.

    A pair of frames follows its time, as in `<0.5 seconds>`. Qwen's scripts give pairs another pad
    token; here it makes no difference, since what the model sees replaces its embedding.
    """
    parts: list[Part] = []
    for picture in pictures:
        if picture.time is not None:
            parts.append(f"<{picture.time:.1f} seconds>")
        parts += [Special.VISION_START, picture, Special.VISION_END]
    return parts


def _rzen_layout(
    settings: Settings, pictures: Sequence[Picture], instruction: str, words: str
) -> list[Part]:
    """Arrange a sequence as the released inference script of arXiv 2510.27350 does.

    Pictures come first; instruction, words and prompt are joined with nothing between.
    """
    prompt = settings.visual_prompt if pictures else settings.text_prompt
    user = [*vision(pictures), f"{instruction}{words}{prompt}"]
    return [*conversation(settings.system, user), Special.END_OF_TEXT]


RZEN = Family(
    name="rzen",
    title="RzenEmbed",
    models={
        "": HubModel(
            "qihoo360/RzenEmbed",  # what the authors of arXiv 2510.27350 published
            FILES,
            summary="things, people, text in pictures and pages",
            speed="for a GPU",
        )
    },
    model_type="qwen2_vl",
    model_class="Qwen2VLModel",
    patch_side=14,
    first_step=(4, 16_384),
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    frame_pairs=False,
    settings=Settings(),
    layout=_rzen_layout,
    tokenizer_ends=False,
)
"""RzenEmbed on Qwen2-VL."""


def _qwen3_vl_layout(
    settings: Settings, pictures: Sequence[Picture], instruction: str, words: str
) -> list[Part]:
    """Arrange a sequence as the script of Qwen3-VL-Embedding does: the instruction is the system's.

    Source:
        github.com/QwenLM/Qwen3-VL-Embedding, src/models/qwen3_vl_embedding.py.
    """
    user = [*vision(pictures), words if words or pictures else "NULL"]
    return conversation(_sentence(instruction) or settings.system, user)


def _sentence(instruction: str) -> str:
    """Strip an instruction, and end it with a full stop where it has no punctuation."""
    instruction = instruction.strip()
    punctuated = not instruction or unicodedata.category(instruction[-1]).startswith("P")
    return instruction if punctuated else f"{instruction}."


def _qwen3_vl_model(size: str, megabytes: int, summary: str) -> HubModel:
    return HubModel(
        f"Qwen/Qwen3-VL-Embedding-{size}",
        FILES,
        summary=summary,
        megabytes=megabytes,
        languages="over 30 languages",
        speed="for a GPU",
        licence="Apache-2.0",
    )


_QWEN3_VL_2B = _qwen3_vl_model(
    "2B", 4_300, "things, people, videos, text in pictures and pages; the one to take with a GPU"
)

QWEN3_VL = Family(
    name="qwen3-vl",
    title="Qwen3-VL-Embedding",
    models={
        "": _QWEN3_VL_2B,
        "2b": _QWEN3_VL_2B,
        "8b": _qwen3_vl_model("8B", 16_300, "what qwen3-vl finds, more exactly"),
    },
    model_type="qwen3_vl",
    model_class="Qwen3VLModel",
    patch_side=16,
    first_step=None,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    frame_pairs=True,
    settings=Settings(
        system="Represent the user's input.",
        # What the authors' own example gives to words that search; to all else it gives none.
        query_instructions={
            (query, document): "Retrieve images or text relevant to the user's query."
            if query is Modality.TEXT
            else ""
            for query in Modality
            for document in Modality
        },
        document_instructions=dict.fromkeys(Modality, ""),
        positions="mrope",
        image_tokens=(4, 1800),
        frame_tokens=(128, 768),
        video_tokens=7680,
        frames=64,
        max_tokens=8192,
    ),
    layout=_qwen3_vl_layout,
    tokenizer_ends=True,
)
"""Qwen3-VL-Embedding (arXiv 2601.04720), with the defaults of its authors' script."""
