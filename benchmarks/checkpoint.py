"""Check the files of a dual encoder: a checklist for who can download them, a line for each check.

    python -m benchmarks.checkpoint SPEC [--coco FOLDER] [--pictures N] [--device cuda]

SPEC is `siglip2`, `siglip2:base16`, `clip:FOLDER` and so on; its files have to be on this
machine. Lines begin with "pass", "fail", or "----" for what is measured and has no expected value.
The exit status is 0 if no check fails, 1 if one does, 2 if the model or the captions cannot be
opened. What stands between backquotes is to be pasted into `embedder/dual`.

- files: size and SHA-256, against the table in `embedder/dual/families.py`
- tokenizer: lower case, the token at the end of a text, padding
- models: names of inputs and outputs
- speed: pictures and queries per second on the photos in `samples/`, and the peak memory so far

With `--coco`, a folder of pictures with captions:

- recall@1 of pictures by their captions, against the published figure
- each other precision in the same folder against float32: cosines, and the recall that is lost
- constants of Platt scaling for a text and a picture, against those in use, and for two pictures

`benchmarks/coco.py` says what to put into the folder.
"""

import argparse
import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.coco import CaptionedPictures, read_coco
from embedder import Content, EmbedderUnavailable, Role
from embedder.dual.checkpoint import Checkpoint
from embedder.dual.embedder import DualEmbedder
from embedder.dual.families import CLIP, SIGLIP2
from embedder.interface import Calibration, ModelSpec, Vectors, normalised
from embedder.media import Limits, MediaError, read_picture
from embedder.mini.sentences import DIM as WORDS
from trainer.mini.calibrate import PRIOR, platt

FAMILIES = {family.name: family for family in (SIGLIP2, CLIP)}
PUBLISHED_RECALL = {"siglip2:base16": 0.521, "clip": 0.304}
"""Recall@1 of pictures by captions on Karpathy's test split of COCO, 5,000 pictures.

Source:
    SigLIP 2: Tschannen et al. 2025, https://arxiv.org/abs/2502.14786. CLIP B/32: the results of
    OpenCLIP, https://github.com/mlfoundations/open_clip.
"""
_PUBLISHED_PICTURES = 5_000
_RECALL_TOLERANCE = 0.005
# Of two samples of 5,000 pictures, recalls differ by 0.7 points of standard error: three of those.
_OTHER_SAMPLE_TOLERANCE = 0.02
_MAX_LOST_RECALL = 0.01
_MAX_MOVED_MIDPOINT = 0.02
_SAMPLE = 1_000  # pictures with a caption each, for precisions and constants
_CHUNK = 64
_FLOAT32 = "vision_model"
_PADDING_ID = 0
_SAMPLES = Path(__file__).parents[1] / "samples/media/photos"


@dataclass(frozen=True, slots=True)
class Rows:
    """What a model makes of pictures and a caption of each: unit rows (n, dim).

    Attributes:
        pictures: The pictures.
        captions: Row i describes picture i.
    """

    pictures: Vectors
    captions: Vectors

    @property
    def recall(self) -> float:
        """Recall@1 of the pictures by their captions."""
        return recall_at_1(self.captions, self.pictures, np.arange(len(self.pictures)))


@dataclass(frozen=True, slots=True)
class Check:
    """A line of the report.

    Attributes:
        name: What is checked.
        passed: Whether it is as expected; None where nothing is expected.
        found: What was found.
    """

    name: str
    passed: bool | None
    found: str

    def __str__(self) -> str:
        verdict = {True: "pass", False: "fail", None: "----"}[self.passed]
        return f"{verdict}  {self.name}: {self.found}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.checkpoint",
        description="Check the files of a dual encoder, a line for each check.",
    )
    parser.add_argument("spec", metavar="SPEC", help="siglip2, siglip2:base16, clip:FOLDER, …")
    parser.add_argument("--coco", type=Path, metavar="FOLDER", help="pictures with captions")
    parser.add_argument("--pictures", type=int, metavar="N", help="use the first N of them")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps")
    given = parser.parse_args(argv)
    spec = ModelSpec.parse(given.spec)
    if spec.family not in FAMILIES:
        parser.error(f"{spec} is not a dual encoder: give one of {', '.join(FAMILIES)}")
    try:
        checkpoint = Checkpoint.find(FAMILIES[spec.family], spec.argument)
        captioned = read_coco(given.coco, given.pictures) if given.coco else None
    except (EmbedderUnavailable, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    failed = 0
    for check in checks(checkpoint, captioned, given.device):
        print(check, flush=True)
        failed += check.passed is False
    print(f"{failed} failed" if failed else "nothing failed")
    return 1 if failed else 0


def checks(
    checkpoint: Checkpoint, captioned: CaptionedPictures | None, device: str | None
) -> Iterator[Check]:
    """Yield all checks; one that cannot be made counts as failed.

    Args:
        checkpoint: What to check.
        captioned: Pictures with captions; None to leave out what needs them.
        device: Where to run.
    """
    yield from _files(checkpoint)
    parts: dict[str, Callable[[], Iterator[Check]]] = {
        "tokenizer": partial(_tokenizer, checkpoint),
        "models": partial(_models, checkpoint, device),
        "speed": partial(_speed, checkpoint, device),
    }
    if captioned is not None:
        parts["captions"] = partial(_captions, checkpoint, device, captioned)
    for name, part in parts.items():
        try:
            yield from part()
        except (EmbedderUnavailable, MediaError) as error:
            yield Check(name, passed=False, found=str(error))


def _files(checkpoint: Checkpoint) -> Iterator[Check]:
    """Compare files with the table, or give the lines that it lacks."""
    folder = checkpoint.tokenizer_file.parent
    model = checkpoint.family.models.get(checkpoint.spec.argument)
    known = {file.name: file for file in model.files} if model else {}
    needed = [folder / "config.json", folder / "preprocessor_config.json"]
    for path in [*needed, checkpoint.tokenizer_file, checkpoint.vision, checkpoint.text]:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        expected = known.get(name)
        line = f'`HubFile("{name}", {size}, "{digest}")`'
        if expected is None or expected.sha256 is None:
            yield Check(f"file {name}", passed=None, found=line)
        else:
            same = digest == expected.sha256 and expected.size in (None, size)
            found = "as in the table" if same else f"the table has {expected}, the file is {line}"
            yield Check(f"file {name}", passed=same, found=found)


def _tokenizer(checkpoint: Checkpoint) -> Iterator[Check]:
    """Check what implementations get wrong about texts."""
    family, length = checkpoint.family, checkpoint.length
    tokenizer = checkpoint.tokenizer()
    short, capitals, long = (
        tokenizer.encode(text)
        for text in ("a bridge at night", "A Bridge at NIGHT", "bridge " * 2 * length)
    )
    yield Check("lower case", short.ids == capitals.ids, f"{capitals.tokens[:8]}")
    end = family.special_tokens[-1]
    words = [token for token in short.tokens if token != family.padding]
    ends = [words[-1], long.tokens[-1]]
    whole = len(long.ids) == length
    yield Check("end of a text", whole and ends == [end, end], f"{ends}, {len(long.ids)} tokens")
    if family.padding is None:
        yield Check("padding", len(short.ids) < length, f"{len(short.ids)} tokens, not padded")
    else:
        filled = [_PADDING_ID] * (length - len(words))
        right = len(short.ids) == length and short.ids[len(words) :] == filled
        yield Check("padding", right, f"{len(short.ids)} tokens, the last is {short.ids[-1]}")


def _models(checkpoint: Checkpoint, device: str | None) -> Iterator[Check]:
    """Check the names of inputs and outputs of both models."""
    vision_output, text_output = checkpoint.family.outputs
    for path, needed, wanted in (
        (checkpoint.vision, "pixel_values", vision_output),
        (checkpoint.text, "input_ids", text_output),
    ):
        session = checkpoint.session(path, device)
        inputs = [one.name for one in session.get_inputs()]
        outputs = [one.name for one in session.get_outputs()]
        right = needed in inputs and wanted in outputs
        yield Check(f"model {path.name}", right, f"{', '.join(inputs)} → {', '.join(outputs)}")


def _speed(checkpoint: Checkpoint, device: str | None) -> Iterator[Check]:
    """Measure pictures and queries per second, and the peak memory of all so far."""
    photos = [read_picture(path) for path in sorted(_SAMPLES.rglob("*.jpg"))]
    pictures = [Content(frames=[photo]) for photo in photos]
    queries = [Content(text=f"photo number {number}") for number in range(len(photos))]
    with DualEmbedder(checkpoint, device) as embedder:
        rates = _rate(embedder, pictures, "document"), _rate(embedder, queries, "query")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found = f"{rates[0]:.1f} pictures/s, {rates[1]:.1f} queries/s, peak memory {peak / 1e6:.0f} MB"
    yield Check("speed", passed=None, found=found)


def _rate(embedder: DualEmbedder, contents: Sequence[Content], role: Role) -> float:
    embedder.embed(contents[:2], role)  # loads the model
    start = time.perf_counter()
    embedder.embed(contents, role)
    return len(contents) / (time.perf_counter() - start)


def _captions(
    checkpoint: Checkpoint, device: str | None, captioned: CaptionedPictures
) -> Iterator[Check]:
    """Make all checks of pictures with captions."""
    first = captioned.first_captions(_SAMPLE)
    owners = captioned.owners[first]
    paths = [captioned.pictures[i] for i in owners]
    with DualEmbedder(checkpoint, device) as embedder:
        pictures, captions = see(embedder, captioned.pictures), read(embedder, captioned.captions)
        crops = see(embedder, paths, _cropped)
    yield _recall(checkpoint, captioned, recall_at_1(captions, pictures, captioned.owners))
    rows = Rows(pictures[owners], captions[first])
    yield from _constants(checkpoint, rows, crops)
    others = [one for one in precisions(checkpoint) if one.vision != checkpoint.vision]
    for other in others:
        with DualEmbedder(other, device) as embedder:
            words = [captioned.captions[i] for i in first]
            own = Rows(see(embedder, paths), read(embedder, words))
        yield _precision(other, own, checkpoint, rows)
    if not others:
        found = "only one is here: add onnx/vision_model.onnx and onnx/text_model.onnx, or others"
        yield Check("precisions", passed=None, found=found)


def _recall(checkpoint: Checkpoint, captioned: CaptionedPictures, recall: float) -> Check:
    """Compare recall@1 with the published figure, where one is of as many pictures."""
    count = len(captioned.pictures)
    found = f"{recall:.3f}, {len(captioned.captions):,} captions of {count:,} pictures"
    published = PUBLISHED_RECALL.get(str(checkpoint.spec))
    if published is None or count != _PUBLISHED_PICTURES:
        return Check("recall@1", passed=None, found=f"{found}; nothing is published for that")
    tolerance = _RECALL_TOLERANCE if captioned.published else _OTHER_SAMPLE_TOLERANCE
    right = abs(recall - published) <= tolerance
    return Check("recall@1", right, f"{found}; published {published:.3f} ± {tolerance}")


def _constants(checkpoint: Checkpoint, rows: Rows, crops: Vectors) -> Iterator[Check]:
    """Fit Platt scaling for captions and pictures, and for crops of pictures and pictures."""
    used = checkpoint.likeness
    fitted = fitted_calibration(rows.captions, rows.pictures)
    moved = abs(fitted.midpoint - used.midpoint) if used else 0.0
    found = f"`{_pasted(fitted)}`, in use {_pasted(used) if used else 'none'}"
    right = _separates(fitted) and moved <= _MAX_MOVED_MIDPOINT
    yield Check("constants of text → image", right, found)
    fitted = fitted_calibration(crops, rows.pictures)
    found = f"`found[image, image] = {_pasted(fitted)}`"
    yield Check("constants of image → image", _separates(fitted), found)


def _precision(other: Checkpoint, own: Rows, checkpoint: Checkpoint, rows: Rows) -> Check:
    """Compare two precisions; float32 is the reference if it is one of them."""
    if other.vision.stem == _FLOAT32:
        return _precision(checkpoint, rows, other, own)
    before, after = rows.recall, own.recall
    cosines = [
        (ours * reference).sum(1)
        for ours, reference in ((own.pictures, rows.pictures), (own.captions, rows.captions))
    ]
    pictures, captions = (f"{one.mean():.4f} (lowest {one.min():.4f})" for one in cosines)
    return Check(
        f"{other.vision.stem} against {checkpoint.vision.stem}",
        before - after <= _MAX_LOST_RECALL,
        f"recall@1 {before:.3f} → {after:.3f}, cosines of pictures {pictures}, captions {captions}",
    )


def precisions(checkpoint: Checkpoint) -> list[Checkpoint]:
    """Return a checkpoint for each precision of which its folder has both models."""
    folder = checkpoint.vision.parent
    pairs = [
        (path, folder / path.name.replace("vision", "text", 1))
        for path in sorted(folder.glob("vision_model*.onnx"))
    ]
    return [replace(checkpoint, vision=v, text=t) for v, t in pairs if t.is_file()]


def see(
    embedder: DualEmbedder,
    paths: Sequence[Path],
    change: Callable[[Image.Image], Image.Image] = lambda picture: picture,
) -> Vectors:
    """Return the part for looks of files with pictures, as unit rows (n, dim).

    Args:
        embedder: The model.
        paths: Pictures, read as an ingest reads them.
        change: What to do with each of them.

    Raises:
        MediaError: one cannot be read.
    """
    side = min(Limits().frame_side, embedder.info.frame_side)
    opened = partial(read_picture, limits=replace(Limits(), frame_side=side))
    parts = []
    with ThreadPoolExecutor() as pool:
        for start in tqdm(range(0, len(paths), _CHUNK), "pictures", leave=False, disable=None):
            pictures = map(change, pool.map(opened, paths[start : start + _CHUNK]))
            contents = [Content(frames=[picture]) for picture in pictures]
            parts.append(embedder.embed(contents, "document")[:, WORDS:])
    return np.concatenate(parts)


def read(embedder: DualEmbedder, captions: Sequence[str]) -> Vectors:
    """Return the part for looks of texts, as unit rows (n, dim)."""
    parts = []
    for start in tqdm(range(0, len(captions), _CHUNK), "captions", leave=False, disable=None):
        contents = [Content(text=text) for text in captions[start : start + _CHUNK]]
        parts.append(embedder.embed(contents, "query")[:, WORDS:])
    return normalised(np.concatenate(parts))


def recall_at_1(captions: Vectors, pictures: Vectors, owners: NDArray[np.int64]) -> float:
    """Return the share of captions whose nearest picture is the one that they describe.

    Args:
        captions: Unit rows (n, dim).
        pictures: Unit rows (m, dim).
        owners: The row of `pictures` that belongs to each caption (n,).
    """
    starts = range(0, len(captions), _SAMPLE)
    nearest = [(captions[i : i + _SAMPLE] @ pictures.T).argmax(1) for i in starts]
    return float((np.concatenate(nearest) == owners).mean())


def fitted_calibration(queries: Vectors, documents: Vectors) -> Calibration:
    """Fit Platt scaling; row i of the queries belongs to row i of the documents, both (n, dim)."""
    cosines = (queries @ documents.T).astype(np.float64)
    relevant = np.eye(len(queries), dtype=bool)
    # A wrong pair of each kind keeps the slope finite where the kinds do not overlap.
    wrong = [cosines[~relevant].mean(), cosines[relevant].mean()]
    pairs = np.append(cosines.ravel(), wrong)
    midpoint, slope = platt(pairs, np.append(relevant.ravel(), [True, False]), PRIOR)
    return Calibration(midpoint, slope)


def _separates(one: Calibration) -> bool:
    return one.slope > 0 and abs(one.midpoint) < 1


def _cropped(picture: Image.Image) -> Image.Image:
    width, height = (max(1, length * 4 // 5) for length in picture.size)
    return picture.crop((0, 0, width, height))


def _pasted(one: Calibration) -> str:
    return f"Calibration(midpoint={one.midpoint:.4f}, slope={one.slope:.2f})"


if __name__ == "__main__":
    sys.exit(main())
