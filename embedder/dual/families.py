"""Families of dual encoders, and their models that have a name here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder.hub import HUB_ID, HubFile, HubModel
from embedder.interface import Calibration, ModelSpec

_PRIOR = 0.05  # share of documents that are relevant, to which `mini` is calibrated
_TRAINED_PRIOR = 1 / 32_768  # one text of SigLIP's batch belongs to a picture


@dataclass(frozen=True, slots=True)
class Family:
    """What dual encoders of one kind have in common.

    Attributes:
        name: What their specifications begin with.
        title: Their name for people.
        model_type: The same in config.json.
        dim: Where config.json has the length of a vector, and what it is where that is left out.
        outputs: Of the vision and of the text model, the embedding.
        length: Tokens of a text with the special ones, where config.json does not say.
        lower_case: Whether texts have to be lower-cased, since tokenizer.json does not.
        padding: The token that fills every text up to `length`; None for no padding.
        special_tokens: Which ones tokenizer.json must have.
        models: Named ones, by what follows the family and a colon; empty for the default.
        likeness: Calibrations of a text and a picture, by the same names; empty where no constants
            are known.
    """

    name: str
    title: str
    model_type: str
    dim: tuple[tuple[str, ...], int]
    outputs: tuple[str, str]
    length: int
    lower_case: bool
    padding: str | None
    special_tokens: tuple[str, ...]
    models: Mapping[str, HubModel]
    likeness: Mapping[str, Calibration]

    @property
    def names(self) -> str:
        """The specifications of its named models, for messages."""
        specs = [str(ModelSpec(self.name, argument)) for argument in self.models]
        return " or ".join([", ".join(specs[:-1]), specs[-1]]) if specs[1:] else specs[0]

    def hub_model(self, argument: str) -> HubModel | None:
        """Return what the model that an argument names is on the hub; None for a folder."""
        if argument in self.models:
            return self.models[argument]
        if HUB_ID.fullmatch(argument) and not Path(argument).exists():
            return HubModel(argument, _UNNAMED_FILES)
        return None


def sigmoid_calibration(scale: float, bias: float) -> Calibration:
    """Return the calibration of a model that was trained with SigLIP's loss.

    The loss makes scale · cosine + bias the log-odds that a text belongs to a picture when one in
    32,768 does. In a search, more documents are relevant; the difference of the log-odds of both
    shares is added.

    Args:
        scale: The exponential of the checkpoint's logit_scale.
        bias: Its logit_bias.

    Source:
        Zhai et al. 2023, https://arxiv.org/abs/2303.15343.
    """
    shift = math.log(_PRIOR / (1 - _PRIOR)) - math.log(_TRAINED_PRIOR / (1 - _TRAINED_PRIOR))
    return Calibration(midpoint=-(bias + shift) / scale, slope=scale)


def _files(*models: HubFile, tokenizer: HubFile) -> tuple[HubFile, ...]:
    return HubFile("config.json"), HubFile("preprocessor_config.json"), tokenizer, *models


_UNNAMED_FILES = (
    *_files(
        HubFile("onnx/vision_model.onnx"),
        HubFile("onnx/text_model.onnx"),
        tokenizer=HubFile("tokenizer.json"),
    ),
    HubFile("onnx/vision_model.onnx_data*", optional=True),  # weights beyond 2 GB
    HubFile("onnx/text_model.onnx_data*", optional=True),
)
_SIGLIP2_TOKENIZER = HubFile(
    "tokenizer.json",
    34_363_039,
    "cb9140fae3ac5122c972d37adf83e1248471a38147ad76f8215c8872c6fd8322",
)
_SIGLIP2_LANGUAGES = "over 100 languages"

SIGLIP2 = Family(
    name="siglip2",
    title="SigLIP 2",
    model_type="siglip",  # SigLIP 2 has the architecture of the first one
    dim=(("vision_config", "hidden_size"), 768),
    outputs=("pooler_output", "pooler_output"),
    length=64,
    lower_case=True,
    padding="<pad>",
    special_tokens=("<pad>", "<eos>"),
    models={
        "": HubModel(
            "onnx-community/siglip2-base-patch32-256-ONNX",
            _files(
                HubFile("onnx/vision_model_int8.onnx"),
                HubFile("onnx/text_model_int8.onnx"),
                tokenizer=_SIGLIP2_TOKENIZER,
            ),
            summary="people, activities, places and things; the one to take without a GPU",
            megabytes=415,
            speed="17 to 50 pictures/s on two CPU cores",
            languages=_SIGLIP2_LANGUAGES,
            licence="Apache-2.0",
            revision="7efccb86b5b6601bfe9e14326e1c11b40b68d44c",
        ),
        "base16": HubModel(
            "onnx-community/siglip2-base-patch16-224-ONNX",
            _files(
                HubFile(
                    "onnx/vision_model.onnx",
                    sha256="c0573e3f4140c3a7c4e9cc5912bd6b26a033b46a6a8e8af26cbea262b163bcad",
                ),
                HubFile(
                    "onnx/text_model.onnx",
                    sha256="baf12d941beabafafb14f7b4adb38dc15be18681b964a84410ec53d9d65e6293",
                ),
                tokenizer=_SIGLIP2_TOKENIZER,
            ),
            summary="what siglip2 finds, in finer detail",
            megabytes=1500,
            speed="5 pictures/s on two CPU cores",
            languages=_SIGLIP2_LANGUAGES,
            licence="Apache-2.0",
        ),
        "so400m": HubModel(
            "onnx-community/siglip2-so400m-patch16-384-ONNX",
            _files(
                HubFile("onnx/vision_model_fp16.onnx"),
                HubFile("onnx/text_model_fp16.onnx"),
                tokenizer=_SIGLIP2_TOKENIZER,
            ),
            summary="what siglip2 finds, in the finest detail",
            megabytes=2300,
            speed="for a GPU",
            languages=_SIGLIP2_LANGUAGES,
            licence="Apache-2.0",
        ),
    },
    # The constants of base-patch16-224 and so400m-patch16-384. Those of other sizes are not known
    # here; among the known ones midpoints differ by 0.006.
    likeness={
        "": sigmoid_calibration(scale=112.67, bias=-16.772),
        "so400m": sigmoid_calibration(scale=109.86, bias=-15.932),
    },
)

CLIP = Family(
    name="clip",
    title="CLIP",
    model_type="clip",
    dim=(("projection_dim",), 512),
    outputs=("image_embeds", "text_embeds"),
    length=77,
    lower_case=False,
    padding=None,  # each token sees only those before it
    special_tokens=("<|startoftext|>", "<|endoftext|>"),
    models={
        "": HubModel(
            "Xenova/clip-vit-base-patch32",
            _files(
                HubFile("onnx/vision_model.onnx"),
                HubFile("onnx/text_model.onnx"),
                tokenizer=HubFile("tokenizer.json"),
            ),
            summary="photos by English captions, for comparison",
            megabytes=610,
            speed="22 pictures/s on two CPU cores",
            languages="English",
            licence="MIT",
        ),
    },
    likeness={},  # it was trained to rank, and has no bias: cosines alone say nothing
)
