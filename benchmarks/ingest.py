"""How much of the model's speed an ingest keeps: `python -m benchmarks.ingest`.

Photo-like JPEGs of 2 and 12 megapixels are indexed into a new library, and compared with the same
work without a library: scaled decoding in as many threads, and the model. Both run alternately,
each ingest in a separate process so that its memory can be measured. The ingest additionally hashes
files, writes thumbnails and the database. The ratio of processor seconds is meaningful on a busy
machine, too.

The cost of decoding in separate processes is measured twice: by an ingest that decodes in its own
threads instead, and by decoding alone.

    python -m benchmarks.ingest --siglip2 FOLDER [--count 50]

compares only the processor time of embedding a picture, resizing included, with that of SigLIP 2
B/32 at 256 pixels in int8. Its weights are random: the first run makes them in FOLDER, which needs
torch, transformers and onnx.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from PIL import Image

from embedder import Content, Embedder, open_embedder
from embedder.media import Draft, Kind, Limits, cut, read_picture
from embedder.media.kinds import Details
from embedder.media.metadata import sidecar_details
from indexer.decoding.pool import DecoderPool
from indexer.types import IngestOptions

_SIZES = {"2 MP": (1632, 1224), "12 MP": (4032, 3024)}
_BATCH = 32
_TINY_SIGLIP2 = Path(__file__).parents[1] / "tests/dual/siglip2"
_SIDE, _PATCH = 256, 32


def main() -> None:
    """Print one line for each size of picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="pictures of each size")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=IngestOptions().workers)
    parser.add_argument("--ingest-only", nargs=2, metavar=("FOLDER", "LIBRARY"))
    parser.add_argument("--siglip2", type=Path, metavar="FOLDER", help="compare with SigLIP 2")
    parser.add_argument("--in-threads", action="store_true", help="decode in no other process")
    given = parser.parse_args()
    if given.ingest_only:
        pictures, library = map(Path, given.ingest_only)
        print(json.dumps(_ingest(pictures, library, given)))
        return
    print(f"model {given.model}, {given.workers} threads, {os.cpu_count()} cores", flush=True)
    if given.siglip2:
        _compare_models(given)
        return
    for name, size in _SIZES.items():
        with tempfile.TemporaryDirectory(prefix="rzen-") as folder:
            _measure(name, size, Path(folder), given)


def _measure(name: str, size: tuple[int, int], folder: Path, given: argparse.Namespace) -> None:
    pictures = folder / "pictures"
    make_pictures(pictures, given.count, size)
    paths = sorted(pictures.iterdir())
    alone, whole, memory, processor, threads = [], [], [], [], []
    with open_embedder(given.model) as embedder:
        _bare(embedder, paths[:8], given.workers)
        for turn in range(given.rounds):
            before = process_time()
            alone.append(_bare(embedder, paths, given.workers))
            bare_seconds = process_time() - before
            other = _ingest_in_process(pictures, folder / f"threads-{turn}", given, "--in-threads")
            report = _ingest_in_process(pictures, folder / f"library-{turn}", given)
            threads.append(report["rate"] / other["rate"])
            whole.append(report["rate"])
            memory.append(report["memory"])
            processor.append(bare_seconds / report["processor_seconds"])
    kept = [ingest / bare for ingest, bare in zip(whole, alone, strict=True)]
    print(
        f"{name:>6}: ingest {statistics.median(whole):6.1f} pictures/s, "
        f"decoding and model alone {statistics.median(alone):6.1f} pictures/s, "
        f"ratio {statistics.median(kept):.2f} ({min(kept):.2f}–{max(kept):.2f}), "
        f"of processor time {statistics.median(processor):.2f}, "
        f"peak memory {max(memory) / 2**20:.0f} MiB, "
        f"against decoding in threads {statistics.median(threads):.2f} "
        f"({min(threads):.2f}–{max(threads):.2f})",
        flush=True,
    )
    _compare_decoding(name, paths, given)


def _compare_models(given: argparse.Namespace) -> None:
    """Print the processor time of a picture, alternately by the model and by SigLIP 2."""
    if not given.siglip2.exists():
        make_siglip2(given.siglip2)
    specs = (given.model, f"siglip2:{given.siglip2}")
    times: dict[str, list[float]] = {spec: [] for spec in specs}
    with tempfile.TemporaryDirectory(prefix="rzen-") as folder, ExitStack() as opened:
        pictures = Path(folder) / "pictures"
        make_pictures(pictures, given.count, _SIZES["2 MP"])
        embedders = [opened.enter_context(open_embedder(spec)) for spec in specs]
        for path in sorted(pictures.iterdir()):
            for spec, embedder in zip(specs, embedders, strict=True):
                content = Content(frames=[read_picture(path, _limits(embedder))])
                before = process_time()
                embedder.embed([content], "document")
                times[spec].append(process_time() - before)
    own, theirs = (seconds[1:] for seconds in times.values())  # the first loads the model
    ratios = [one / other for one, other in zip(theirs, own, strict=True)]
    print(
        f"processor time of a picture, n = {len(own)}, least (median): "
        f"{given.model} {1000 * min(own):.1f} ({1000 * statistics.median(own):.1f}) ms, "
        f"siglip2 {1000 * min(theirs):.1f} ({1000 * statistics.median(theirs):.1f}) ms, "
        f"ratio {min(theirs) / min(own):.2f} ({statistics.median(ratios):.2f})",
        flush=True,
    )


def make_siglip2(folder: Path) -> None:
    """Write a SigLIP 2 with random weights: B/32-256 in int8 for pictures, a tiny one for texts."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import SiglipVisionConfig, SiglipVisionModel

    partial_folder = folder.with_name(f"{folder.name}.partial")
    shutil.copytree(_TINY_SIGLIP2, partial_folder, dirs_exist_ok=True)
    config = SiglipVisionConfig(image_size=_SIDE, patch_size=_PATCH)
    for name, changes in {
        "config.json": {"vision_config": config.to_dict()},
        "preprocessor_config.json": {"size": {"height": _SIDE, "width": _SIDE}},
    }.items():
        stated = json.loads((partial_folder / name).read_text("utf-8"))
        (partial_folder / name).write_text(json.dumps(stated | changes), "utf-8")
    model = partial_folder / "onnx/vision_model.onnx"
    torch.onnx.export(
        SiglipVisionModel(config).eval(),
        (torch.zeros(2, 3, _SIDE, _SIDE),),
        model,
        input_names=["pixel_values"],
        output_names=["last_hidden_state", "pooler_output"],
        dynamic_axes={"pixel_values": {0: "batch"}},
        opset_version=18,
        dynamo=False,
    )
    small = model.with_name("vision_model_int8.onnx")
    quantize_dynamic(
        model, small, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8
    )
    model.unlink()
    partial_folder.rename(folder)


def _compare_decoding(name: str, paths: Sequence[Path], given: argparse.Namespace) -> None:
    """Print how fast files are cut in threads, and in processes that the threads wait for."""
    limits = replace(Limits(), frame_side=640)
    rates, seconds = [], []
    for _ in range(given.rounds):
        here, here_seconds = _cut_all(paths, partial(cut, limits=limits), given.workers)
        before = _processor_seconds()
        with DecoderPool() as workers:
            list(workers.cut(paths[0], Kind.IMAGE, limits))
            there, _ = _cut_all(paths, partial(workers.cut, limits=limits), given.workers)
        rates.append(there / here)
        seconds.append(here_seconds / (_processor_seconds() - before))
    print(
        f"{name:>6}: decoding in processes against threads {statistics.median(rates):.2f} "
        f"({min(rates):.2f}–{max(rates):.2f}), of processor time with their start "
        f"{statistics.median(seconds):.2f}",
        flush=True,
    )


def _cut_all(
    paths: Sequence[Path], cut: Callable[[Path, Kind], Iterator[Draft]], workers: int
) -> tuple[float, float]:
    """Return pictures per second, and processor seconds."""
    started, before = perf_counter(), _processor_seconds()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda path: sum(1 for _ in cut(path, Kind.IMAGE)), paths):
            pass
    return len(paths) / (perf_counter() - started), _processor_seconds() - before


def _processor_seconds() -> float:
    """Return processor seconds of this process and of its finished children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class InThreads:
    """Decodes in the threads that ask for it."""

    def cut(self, path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        """Cut a file into segments."""
        return cut(path, kind, limits)

    def describe(self, sidecar: Path) -> Details:
        """Return what a sidecar says."""
        return sidecar_details([sidecar])


def make_pictures(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write JPEGs with what makes photos costly: gradients, edges, and noise."""
    folder.mkdir()
    rng = np.random.default_rng(7)
    width, height = size
    noise = rng.normal(0, 9, (height, width, 3)).astype(np.float32)
    for number in range(count):
        coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(smooth, dtype=np.float32) + np.roll(noise, number * 37, axis=1)
        left, top = int(rng.integers(width // 2)), int(rng.integers(height // 2))
        pixels[top : top + height // 3, left : left + width // 3] *= 0.5
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{number:04}.jpg", quality=88)


def _bare(embedder: Embedder, paths: Sequence[Path], workers: int) -> float:
    """Return pictures per second of decoding and embedding alone."""
    limits = _limits(embedder)
    started = perf_counter()
    batch: list[Content] = []
    for picture in _decoded(paths, limits, workers):
        batch.append(Content(frames=[picture]))
        if len(batch) == _BATCH:
            embedder.embed(batch, "document")
            batch = []
    embedder.embed(batch, "document")
    return len(paths) / (perf_counter() - started)


def _limits(embedder: Embedder) -> Limits:
    return replace(Limits(), frame_side=min(Limits().frame_side, embedder.info.frame_side))


def _decoded(paths: Sequence[Path], limits: Limits, workers: int) -> Iterator[Image.Image]:
    waiting: deque[Future[Image.Image]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for path in paths:
            waiting.append(pool.submit(read_picture, path, limits))
            if len(waiting) > 2 * _BATCH:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _ingest_in_process(
    pictures: Path, library: Path, given: argparse.Namespace, *flags: str
) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ingest", "--model", given.model, *flags]
    command += ["--workers", str(given.workers), "--ingest-only", str(pictures), str(library)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report: dict[str, float] = json.loads(done.stdout)
    return report


def _ingest(pictures: Path, directory: Path, given: argparse.Namespace) -> dict[str, float]:
    from indexer import Library

    in_threads = nullcontext(InThreads())
    decoders = (lambda _cancel: in_threads) if given.in_threads else None
    with Library.open(directory, model=given.model, decoders=decoders) as library:
        picture = Image.new("RGB", (64, 64))
        library.embedder.embed([Content(frames=[picture])], "document")  # loads the weights
        started, before = perf_counter(), _processor_seconds()
        report = library.ingest([pictures], IngestOptions(workers=given.workers))
        rate = report.added / (perf_counter() - started)
        seconds = _processor_seconds() - before
    return {"rate": rate, "processor_seconds": seconds, "memory": _peak_memory()}


def _peak_memory() -> int:
    """Return bytes; not from `ru_maxrss` on Linux, where it includes the parent's memory."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
