"""Contents per second of `rzen` and of the plain procedure, on the same model in the same run.

    python -m benchmarks.embedding [--contents 32] [--rounds 2] [--spec rzen:FOLDER]
                                   [--device cuda] [--dtype bfloat16]

The workload is random with a fixed seed: half of it texts of 5 to 300 words, a third pictures of
0.1 to 2 megapixels, the rest clips of 8 frames. No two contents are equal, so caching saves
nothing. The plain procedure is what one writes first: batches of 32 in the given order, one call of
transformers' processor, padded to the longest with a mask, no overlap. Without --spec the model is
an untrained Qwen2-VL of about 100 million parameters.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.untrained import Shape, build
from embedder import Content, Modality
from embedder.interface import Vectors
from embedder.mllm.embedder import MllmEmbedder, open_mllm
from embedder.mllm.families import RZEN
from embedder.mllm.pictures import planned

BATCH = 32
HUNDRED_MILLION = Shape(
    hidden=768,
    layers=9,
    heads=12,
    kv_heads=2,
    intermediate=2816,
    vision_hidden=512,
    vision_layers=8,
    vision_heads=8,
    vocabulary=4096,
)
"""About 100 million parameters, split between seeing and reading much as in Qwen2-VL-2B."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contents", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--spec", default="")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    contents = workload(given.contents, random.Random(given.seed))
    with tempfile.TemporaryDirectory() as folder:
        where = given.spec.removeprefix("rzen:")
        if not where:
            texts = [content.text for content in contents if content.text]
            where = str(build(Path(folder) / "model", HUNDRED_MILLION, texts=texts))
        with open_mllm(RZEN, where, device=given.device, dtype=given.dtype) as embedder:
            compare(embedder, contents, given.rounds)


def workload(count: int, chance: random.Random) -> list[Content]:
    """Draw mixed contents in random order."""
    contents = [Content(text=words(chance.randint(5, 300), chance)) for _ in range(count // 2)]
    for _ in range(count // 3):
        area, ratio = chance.uniform(0.1e6, 2e6), chance.uniform(0.6, 1.7)
        size = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        contents.append(Content(frames=[picture(size, chance)]))
    while len(contents) < count:
        frames = [picture((640, 360), chance) for _ in range(8)]
        contents.append(Content(frames=frames, modality=Modality.VIDEO))
    chance.shuffle(contents)
    return contents


def words(count: int, chance: random.Random) -> str:
    """Draw a text of invented words that repeat, as words do."""
    syllables = "ba ce di fo gu la me ni po ru sa te vi wo zu an er in or un".split()
    known = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(400)]
    return " ".join(chance.choices(known, k=count))


def picture(size: tuple[int, int], chance: random.Random) -> Image.Image:
    """Draw coloured noise, smooth at the scale of a few dozen pixels."""
    noise = np.random.default_rng(chance.getrandbits(32)).integers(0, 256, (9, 12, 3))
    return Image.fromarray(noise.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def compare(embedder: MllmEmbedder, contents: Sequence[Content], rounds: int) -> None:
    """Run both procedures alternately and print their speed."""
    template, backbone = embedder.loaded()
    parameters = sum(one.numel() for one in backbone.parameters())
    device = next(backbone.parameters()).device
    sequences = [template.sequence(content, "document") for content in contents]
    tokens = sum(map(len, sequences))
    print(
        f"{parameters / 1e6:.0f} M parameters on {device}, {backbone.model.dtype}, "
        f"{torch.get_num_threads()} threads; {len(contents)} contents, {tokens:,} tokens"
    )
    plain = Plain(embedder)
    runs: dict[str, Callable[[Sequence[Content]], Vectors]] = {
        "plain": plain.embed,
        "rzen": partial(embedder.embed, role="document"),
    }
    vectors: dict[str, Vectors] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # Warm up.
        run(contents[:4])
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            vectors[name] = run(contents)
            times[name].append(time.perf_counter() - start)
    print(f"{'procedure':10} {'seconds':>8} {'contents/s':>11} {'tokens/s':>9}")
    for name, taken in times.items():
        best = min(taken)
        print(f"{name:10} {best:8.1f} {len(contents) / best:11.2f} {tokens / best:9.0f}")
    cosines = (vectors["plain"] * vectors["rzen"]).sum(1)
    ratios = sorted(p / r for p, r in zip(times["plain"], times["rzen"], strict=True))
    print(
        f"rzen / plain: {min(times['plain']) / min(times['rzen']):.2f} × the contents/s (by round: "
        f"{', '.join(f'{one:.2f}' for one in ratios)}); lowest cosine between them "
        f"{cosines.min():.7f}"
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        embedder.embed(contents, "document")
    print(memory(device))


def memory(device: torch.device) -> str:
    """Return the peak memory and its share of the total: of rzen on a GPU, else of the run."""
    if device.type == "cuda":
        peak, whole = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        whole = int(next(Path("/proc").glob("meminfo")).read_text().split()[1]) * 1024
    return f"peak memory {peak / 1e9:.1f} GB, {peak / whole:.0%} of {whole / 1e9:.0f} GB"


class Plain:
    """The plain procedure: transformers' image processor and tokenizer, then the model."""

    def __init__(self, embedder: MllmEmbedder) -> None:
        from transformers import AutoImageProcessor, AutoTokenizer

        directory = embedder.checkpoint.directory
        self._settings = embedder.settings
        self._model = embedder.loaded()[1].model
        self._pictures = AutoImageProcessor.from_pretrained(directory, backend="pil")
        self._tokenizer = AutoTokenizer.from_pretrained(directory)

    def embed(self, contents: Sequence[Content]) -> Vectors:
        """Return the vectors (n, dim), in order."""
        parts = [
            self._embed(contents[start : start + BATCH]) for start in range(0, len(contents), BATCH)
        ]
        return np.concatenate(parts)

    @torch.inference_mode()
    def _embed(self, contents: Sequence[Content]) -> Vectors:
        settings, device = self._settings, self._model.device
        texts, frames = [], []
        for content in contents:
            video = content.modality is Modality.VIDEO
            span = settings.frame_tokens if video else settings.image_tokens
            plans = [
                planned(frame.size, span, RZEN.patch_side, RZEN.first_step)
                for frame in content.frames
            ]
            for frame, plan in zip(content.frames, plans, strict=True):
                frames.append(frame.resize(plan.first).resize(plan.final))
            vision = "".join(
                f"<|vision_start|>{'<|image_pad|>' * plan.tokens}<|vision_end|>" for plan in plans
            )
            instruction = settings.document_instructions[content.modality]
            texts.append(
                f"<|im_start|>system\n{settings.system}<|im_end|>\n<|im_start|>user\n"
                f"{vision}{instruction}{content.text or ''}<|im_end|>\n<|im_start|>assistant\n"
                f"<|endoftext|>"
            )
        words = self._tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        given = {name: words[name].to(device) for name in ("input_ids", "attention_mask")}
        if frames:
            seen = self._pictures(frames, do_resize=False, return_tensors="pt")
            given |= {name: value.to(device) for name, value in seen.items()}
        length = given["input_ids"].shape[1]
        positions = torch.arange(length, device=device).expand(3, len(contents), length)
        states = self._model(**given, position_ids=positions, use_cache=False).last_hidden_state
        last = given["attention_mask"].sum(1) - 1
        pooled = states[torch.arange(len(contents), device=device), last].float()
        return np.asarray(torch.nn.functional.normalize(pooled, dim=-1).cpu())


if __name__ == "__main__":
    main()
