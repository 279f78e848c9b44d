"""Memory and disk that RzenEmbed needs at each size, computed from the shapes of Qwen2-VL.

    python benchmarks/hardware.py

Parameters are counted on models without storage. Activations are the largest that one layer of
either tower holds, for one picture of 1,280 tokens and for a batch of 8,192 tokens; PyTorch itself
and its CUDA context take about 1 GB more. A library keeps each vector twice, as float16: in SQLite,
and in a file of the index that is mapped, of which a search reads the rows that it compares. Codes,
ids, folders and dates are mapped too, and a search is fast while the system keeps them in memory.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import torch
from transformers import Qwen2VLConfig, Qwen2VLModel

from indexer.vectors.partition import IndexPolicy

PICTURE, BATCH = 1280, 8192
_POSITION_BYTES, _ID_BYTES, _HOLDER_BYTES = 8, 8, 16
SEGMENTS = 1_000_000


@dataclass(frozen=True)
class Size:
    """The widths of a published Qwen2-VL (its config.json)."""

    name: str
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int


SIZES = (
    Size("2B", 1536, 12, 2, 8960, 151_936),
    Size("7B", 3584, 28, 4, 18_944, 152_064),
)


def main() -> None:
    """Print a table with a row for each size."""
    heads = ("size", "parameters", "weights bf16", "float32", "1 picture", "batch", "dim")
    print("".join(f"{head:>13}" for head in (*heads, "SQLite/M", "rows/M", "codes/M", "memory/M")))
    for size in SIZES:
        model = on_no_device(size)
        parameters = sum(one.numel() for one in model.parameters())
        columns = (
            size.name,
            f"{parameters / 1e9:.2f} G",
            *(gigabytes(parameters * width) for width in (2, 4)),
            *(gigabytes(activations(model.config, tokens)) for tokens in (PICTURE, BATCH)),
            str(size.hidden),
            gigabytes(2 * size.hidden * SEGMENTS),
            *map(gigabytes, index(size.hidden)),
        )
        print("".join(f"{column:>13}" for column in columns))


def index(dim: int) -> tuple[int, int, int]:
    """Bytes of rows and of codes with ids that are mapped, and of what is in memory."""
    code = faiss.RaBitQuantizer(dim, faiss.METRIC_L2).code_size
    centroids = 2 * dim * IndexPolicy().lists(SEGMENTS)
    mapped = SEGMENTS * (code + _POSITION_BYTES + _ID_BYTES + _HOLDER_BYTES) + centroids
    return 2 * dim * SEGMENTS, mapped, SEGMENTS


def on_no_device(size: Size) -> Any:
    """Build a model that has the shapes of its weights and no storage."""
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": size.hidden,
            "num_hidden_layers": 28,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.kv_heads,
            "intermediate_size": size.intermediate,
            "vocab_size": size.vocabulary,
        },
        vision_config={"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": size.hidden},
    )
    with torch.device("meta"):
        return Qwen2VLModel(config)


def activations(config: Any, tokens: int) -> int:
    """Return the bytes in bfloat16 that a layer holds for tokens of pictures, the larger tower's.

    The residual stream, its normed copy, queries, keys, values and attention's output, then the
    widest part of the MLP: three times for the language model (gate, up, their product), twice for
    the vision encoder, which has four patches for a token.
    """
    text, vision = config.text_config, config.vision_config
    reading = tokens * (6 * text.hidden_size + 3 * text.intermediate_size)
    seeing = 4 * tokens * (6 * vision.embed_dim + 2 * vision.mlp_ratio * vision.embed_dim)
    return 2 * max(reading, seeing)


def gigabytes(count: float) -> str:
    """Format a number of bytes."""
    return f"{count / 1e9:.1f} GB" if count > 5e7 else f"{count / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
