"""Write the tiny dual encoders of this folder, and what transformers makes of some inputs.

    python tests/dual/make.py

Random weights of the true architectures in the layout of the hub's exports for ONNX Runtime. The
weights are four times as large as usual, so that faults in preprocessing show in the vectors. The
pictures are resized by Pillow, as transformers does where torchvision is missing.
"""

import json
import string
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.onnx._internal.torchscript_exporter import onnx_proto_utils
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

FOLDER = Path(__file__).parent
PHOTOS = ("astronaut", "cat", "coffee", "rocket")
WORDS = tuple("bridge night two dogs playing plage photo word flower bee cat".split())
TEXTS = [
    "a Bridge at Night!",
    "Two dogs, playing",
    "été à la plage",
    "photo of 3 Ducks_on_a pond...",
    "word " * 200,
    "星",
    "a flower with a bee",
    "Cat",
]
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = SHAPE | {"image_size": 32, "patch_size": 8}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def merges_of(words: tuple[str, ...], end: str = "") -> tuple[list[str], list[tuple[str, str]]]:
    """Return the pieces of words, each one character longer, and the merges that build them."""
    pieces, merges = [], []
    for word in words:
        letters = [*word[:-1], word[-1] + end]
        for i in range(1, len(letters)):
            merges.append(("".join(letters[:i]), letters[i]))
            pieces.append("".join(letters[: i + 1]))
    return list(dict.fromkeys(pieces)), list(dict.fromkeys(merges))


def siglip2_tokenizer() -> Tokenizer:
    """Return one built as Gemma's: pieces with byte fallback, spaces as ▁, <eos> at the end."""
    pieces, merges = merges_of(WORDS)
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", *string.ascii_lowercase, *string.ascii_uppercase, *pieces]
    model = models.BPE(
        {token: i for i, token in enumerate(tokens)},
        merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.add_special_tokens(tokens[:4])
    return tokenizer


def clip_tokenizer() -> Tokenizer:
    """Return one built as CLIP's: bytes with a mark at the end of a word, lower-cased."""
    pieces, merges = merges_of(WORDS, "</w>")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{one}</w>" for one in letters), *pieces]
    start, end = "<|startoftext|>", "<|endoftext|>"
    model = models.BPE(
        {token: i for i, token in enumerate(dict.fromkeys([*tokens, start, end]))},
        merges,
        end_of_word_suffix="</w>",
        continuing_subword_prefix="",
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    ids = {token: tokenizer.token_to_id(token) for token in (start, end)}
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, ids[end]), (start, ids[start]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.add_special_tokens([start, end])
    return tokenizer


class Tower(torch.nn.Module):
    """One side of a model, with the outputs that the hub's exports have."""

    def __init__(self, model: torch.nn.Module, side: str) -> None:
        super().__init__()
        self.tower = getattr(model, f"{side}_model")
        projection = {"vision": "visual_projection", "text": "text_projection"}[side]
        self.projection = getattr(model, projection, None)

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embedding and the hidden states."""
        out = self.tower(given)
        pooled = out.pooler_output
        return (self.projection(pooled) if self.projection else pooled), out.last_hidden_state


def build(family: str, model: torch.nn.Module, tokenizer: Tokenizer, pictures: dict) -> None:
    """Write a checkpoint and the vectors of transformers."""
    folder = FOLDER / family
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(4)
    model.eval()
    model.config.to_json_file(folder / "config.json")
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures, indent=1) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    names = {"clip": ("image_embeds", "text_embeds")}.get(family, ("pooler_output",) * 2)
    inputs = {"pixel_values": torch.zeros(2, 3, 32, 32), "input_ids": torch.ones(2, 9).long()}
    for side, (name, given), output in zip(("vision", "text"), inputs.items(), names, strict=True):
        axes = {0: "batch", 1: "sequence"} if side == "text" else {0: "batch"}
        torch.onnx.export(
            Tower(model, side),
            (given,),
            folder / "onnx" / f"{side}_model.onnx",
            input_names=[name],
            output_names=[output, "last_hidden_state"],
            dynamic_axes={name: axes, output: {0: "batch"}, "last_hidden_state": axes},
            opset_version=18,
            dynamo=False,
        )


def embedded(model, processor, tokenizer, **texts):
    """Return unit rows of the photos and of the texts."""
    files = [FOLDER.parent / "media" / f"{name}.jpg" for name in PHOTOS]
    images = [Image.open(file).convert("RGB") for file in files]
    images += [image.resize((130, 37)) for image in images[:2]]
    with torch.no_grad():
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        pictures = model.get_image_features(pixel_values=pixels).pooler_output
        ids = tokenizer(TEXTS, return_tensors="pt", truncation=True, **texts)["input_ids"]
        words = model.get_text_features(input_ids=ids).pooler_output
    return [torch.nn.functional.normalize(rows).numpy() for rows in (pictures, words)]


def main() -> None:
    """Write both checkpoints and expected.npz."""
    # It imports the package onnx only to look for functions of onnxscript, which there are none of.
    onnx_proto_utils._add_onnxscript_fn = lambda model, _opsets: model
    expected = {}
    torch.manual_seed(1)
    tokenizer = siglip2_tokenizer()
    text = SHAPE | {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 64}
    model = SiglipModel(
        SiglipConfig(text_config=text | {"projection_size": 32}, vision_config=VISION)
    )
    normal = {"do_resize": True, "do_rescale": True, "do_normalize": True}
    normal |= {"rescale_factor": 1 / 255}
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    pictures = normal | half | {"size": {"height": 32, "width": 32}, "resample": 2}
    build("siglip2", model, tokenizer, pictures)
    lower = Tokenizer.from_str(tokenizer.to_str())
    lower.normalizer = normalizers.Sequence([normalizers.Lowercase(), lower.normalizer])
    fast = PreTrainedTokenizerFast(tokenizer_object=lower, pad_token="<pad>", padding_side="right")
    expected["siglip2_pictures"], expected["siglip2_texts"] = embedded(
        model, SiglipImageProcessorPil(**pictures), fast, padding="max_length", max_length=64
    )
    tokenizer = clip_tokenizer()
    start, end = tokenizer.get_vocab_size() - 2, tokenizer.get_vocab_size() - 1
    text = SHAPE | {"vocab_size": end + 1, "max_position_embeddings": 77}
    text |= {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))
    pictures = normal | {"size": {"shortest_edge": 32}, "resample": 3, "do_center_crop": True}
    pictures |= {"crop_size": {"height": 32, "width": 32}, "image_mean": MEAN, "image_std": STD}
    build("clip", model, tokenizer, pictures)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>")
    expected["clip_pictures"], expected["clip_texts"] = embedded(
        model, CLIPImageProcessorPil(**pictures), fast, padding="max_length", max_length=77
    )
    np.savez_compressed(FOLDER / "expected.npz", **expected)
    cases = {"photos": PHOTOS, "texts": TEXTS}
    (FOLDER / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
