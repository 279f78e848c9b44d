"""An untrained Qwen2-VL or Qwen3-VL of any size, in the file formats of a real one.

`python -m benchmarks.untrained DIR` writes a Qwen2-VL, which `--model rzen:DIR` opens, and with
`--family qwen3-vl` a Qwen3-VL: to train from scratch, to measure speed, and to test where no
weights can be downloaded. Its vectors are meaningless.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = tuple(
    f"<|{name}|>"
    for name in (
        *("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start"),
        *("box_end", "quad_start", "quad_end", "vision_start", "vision_end", "vision_pad"),
        *("image_pad", "video_pad"),
    )
)
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PICTURES: Mapping[str, Any] = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "resample": 3,
    "rescale_factor": 1 / 255,
}
_PICTURES_OF: Mapping[str, Mapping[str, Any]] = {
    "rzen": {
        "processor_class": "Qwen2VLProcessor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "size": {"shortest_edge": 256 * 28 * 28, "longest_edge": 1280 * 28 * 28},
        "patch_size": 14,
    },
    "qwen3-vl": {
        "processor_class": "Qwen3VLProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"shortest_edge": 64 * 32 * 32, "longest_edge": 16_384 * 32 * 32},
        "patch_size": 16,
    },
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a model.

    Attributes:
        hidden: Width of the language model, and length of the embeddings.
        layers: Of the language model.
        heads: Of its attention; `hidden / heads` must be a multiple of 16.
        kv_heads: Heads for keys and values.
        intermediate: Width of its MLPs.
        vision_hidden: Width of the vision encoder.
        vision_layers: Of the vision encoder.
        vision_heads: Of its attention; `vision_hidden / vision_heads` must be a multiple of 8.
        vocabulary: Most tokens, special ones included.
    """

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 128
    vision_hidden: int = 32
    vision_layers: int = 2
    vision_heads: int = 2
    vocabulary: int = 512


TINY = Shape()
"""About 200,000 parameters, for tests."""


def build(
    directory: Path,
    shape: Shape = TINY,
    *,
    family: str = "rzen",
    texts: Iterable[str] = (),
    seed: int = 0,
) -> Path:
    """Write an untrained checkpoint.

    Args:
        directory: Created if it does not exist.
        shape: Its size.
        family: "rzen" for a Qwen2-VL, "qwen3-vl" for a Qwen3-VL.
        texts: The tokenizer's training texts; without any it has single bytes only.
        seed: Of the random weights.

    Returns:
        The directory.
    """
    import torch
    from transformers import Qwen2VLForConditionalGeneration, Qwen3VLForConditionalGeneration

    directory.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(directory, texts, shape.vocabulary)
    pictures = {**_PICTURES, **_PICTURES_OF[family]}
    (directory / "preprocessor_config.json").write_text(json.dumps(pictures, indent=1) + "\n")
    qwen3 = family == "qwen3-vl"
    kind = Qwen3VLForConditionalGeneration if qwen3 else Qwen2VLForConditionalGeneration
    config = _qwen3_config(shape, ids) if qwen3 else _qwen2_config(shape, ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind(config).save_pretrained(directory)
    return directory


def _qwen2_config(shape: Shape, ids: dict[str, int]) -> "object":
    from transformers import Qwen2VLConfig

    head = shape.hidden // shape.heads
    sections = [head // 8, 3 * head // 16, 3 * head // 16]
    return Qwen2VLConfig(
        text_config=_language(shape, ids, rope_theta=1_000_000.0, mrope_section=sections)
        | {"use_sliding_window": False},
        vision_config={
            "depth": shape.vision_layers,
            "embed_dim": shape.vision_hidden,
            "num_heads": shape.vision_heads,
            "hidden_size": shape.hidden,
            "mlp_ratio": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        **_shared(ids),
    )


def _qwen3_config(shape: Shape, ids: dict[str, int]) -> "object":
    from transformers import Qwen3VLConfig

    head = shape.hidden // shape.heads
    sections = [head // 2 - 2 * (5 * head // 32), 5 * head // 32, 5 * head // 32]
    language = _language(
        *(shape, ids), rope_theta=5_000_000.0, mrope_section=sections, mrope_interleaved=True
    )
    # DeepStack reaches at most the first three layers of the language model.
    levels = min(3, shape.layers, shape.vision_layers)
    return Qwen3VLConfig(
        text_config=language | {"head_dim": head},
        vision_config={
            "depth": shape.vision_layers,
            "hidden_size": shape.vision_hidden,
            "intermediate_size": 4 * shape.vision_hidden,
            "num_heads": shape.vision_heads,
            "out_hidden_size": shape.hidden,
            "deepstack_visual_indexes": [
                level * shape.vision_layers // levels for level in range(levels)
            ],
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        **_shared(ids),
    )


def _language(shape: Shape, ids: dict[str, int], **rope: object) -> dict[str, Any]:
    return {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", **rope},
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }


def _shared(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": True,
    }


def _write_tokenizer(directory: Path, texts: Iterable[str], vocabulary: int) -> dict[str, int]:
    """Train a byte-level BPE tokenizer like Qwen2's; return the ids of all tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    learning = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, learning)
    tokenizer.save(str(directory / "tokenizer.json"))
    about = {
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": 32_768,
        "pad_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "bos_token": None,
        "unk_token": None,
        "additional_special_tokens": list(SPECIAL_TOKENS),
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n")
    known: dict[str, int] = tokenizer.get_vocab()
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.untrained",
        description="Write an untrained Qwen2-VL or Qwen3-VL, whose vectors are meaningless.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument(
        "--family",
        choices=tuple(_PICTURES_OF),
        default="rzen",
        help="rzen for a Qwen2-VL (the default), qwen3-vl for a Qwen3-VL",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--texts", type=Path, metavar="FILE", help="train the tokenizer on its lines"
    )
    for field in fields(Shape):
        name = field.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=int, default=getattr(TINY, field.name), metavar="N")
    given = vars(parser.parse_args(arguments))
    shape = Shape(**{field.name: given[field.name] for field in fields(Shape)})
    texts = given["texts"].read_text(encoding="utf-8").splitlines() if given["texts"] else ()
    if given["directory"].exists() and any(given["directory"].iterdir()):
        print(f"{given['directory']} is not empty: choose a new folder", file=sys.stderr)
        return 2
    build(given["directory"], shape, family=given["family"], texts=texts, seed=given["seed"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
