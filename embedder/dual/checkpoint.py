"""A dual encoder on disk: found on this machine, checked, and fingerprinted."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from PIL import Image

from embedder.download import local_folder
from embedder.dual.families import Family
from embedder.hub import HubModel, cached_folder, channels, read_object
from embedder.interface import Calibration, EmbedderUnavailable, ModelSpec
from embedder.onnx_runtime import open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

# By preference, where a folder has the same model in several.
_PRECISIONS = ("", "_fp16", "_int8", "_quantized", "_uint8")
_FLOATING = ("_model", "_fp16")
_MAX_SIDE = 1024
_MIN_MODEL_BYTES = 1024
_PROBES, _PROBED_BYTES = 64, 65_536


@dataclass(frozen=True, slots=True)
class Resizing:
    """How a picture becomes the input of the vision model.

    Attributes:
        side: Of the square input, in pixels.
        crop: Whether the picture keeps its shape and its centre is cut out, or is squashed.
        resample: Pillow's filter.
        scale: Factor for the values of a pixel, 0 to 255.
        mean: Subtracted from each channel after that.
        std: Divides each channel after that.
    """

    side: int
    crop: bool
    resample: Image.Resampling
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a preprocessor_config.json.

        Raises:
            EmbedderUnavailable: it is missing, or describes something else.
        """
        stated = read_object(path)
        crop = bool(stated.get("do_center_crop", False))
        sides = _sides(stated.get("size")) + (_sides(stated.get("crop_size")) if crop else [])
        try:
            resample = Image.Resampling(stated["resample"])
            scale = float(stated.get("rescale_factor", 1 / 255))
            if any(side != sides[0] for side in sides) or sides[0] not in range(1, _MAX_SIDE + 1):
                raise ValueError(sides)
        except (KeyError, TypeError, ValueError) as error:
            raise EmbedderUnavailable(
                f"{path} does not say how to resize pictures to squares of one size"
            ) from error
        if not stated.get("do_normalize", True):
            stated = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
        mean = channels(path, stated, "image_mean")
        std = channels(path, stated, "image_std")
        return cls(sides[0], crop, resample, scale, mean, std)


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoint:
    """A dual encoder in a folder, in the layout of the hub's exports for transformers.js.

    Attributes:
        family: What it has in common with others.
        spec: The specification that opens it.
        vision: The file of the vision model.
        text: The file of the text model.
        tokenizer_file: Its tokenizer.json.
        resizing: How pictures are prepared.
        length: Tokens of a text at most, with the special ones.
        dim: Length of its vectors.
        likeness: Calibration of a text and a picture; None where no constants are known.
        digest: SHA-256 over the tokenizer, what the other files state, and parts of the models:
            training changes whole tensors, and hashing gigabytes would take seconds.
    """

    family: Family
    spec: ModelSpec
    vision: Path
    text: Path
    tokenizer_file: Path
    resizing: Resizing
    length: int
    dim: int
    likeness: Calibration | None
    digest: str

    @classmethod
    def find(cls, family: Family, argument: str = "") -> Self:
        """Find a checkpoint on this machine; nothing is downloaded.

        Args:
            family: Its family.
            argument: One of the family's names, a folder, or a name on the hub.

        Raises:
            EmbedderUnavailable: it is missing, incomplete or damaged, or of another kind.
        """
        path = Path(os.path.expanduser(argument))  # noqa: PTH111 -- Path.expanduser raises for unknown users.
        try:
            if (model := family.hub_model(argument)) is not None:
                return cls._of_hub(family, model, argument)
            if not path.is_dir():
                raise EmbedderUnavailable(
                    f"there is no folder {path} with a {family.title} model: give a folder, a name "
                    f"on the Hugging Face hub, or {family.names}"
                )
            folder = path.resolve()
            return cls._read(family, folder, ModelSpec(family.name, str(folder)))
        except OSError as error:
            reason = error.strerror or error
            raise EmbedderUnavailable(f"{path} cannot be read: {reason}") from error

    @classmethod
    def _of_hub(cls, family: Family, model: HubModel, argument: str) -> Self:
        """Read a model of the hub: one with a name here in its precision, others in any."""
        spec = ModelSpec(family.name, argument)
        names = [file.name for file in model.files] if argument in family.models else []
        folder = local_folder(model) or cached_folder(model.repository, model.revision)
        if folder is None:
            size = f" ({model.megabytes} MB)" if model.megabytes else ""
            raise EmbedderUnavailable(
                f"the model {spec} is not on this machine: download it with "
                f"`rzen-models fetch {spec}`{size}, or copy a folder with its files here and use "
                f"--model {family.name}:FOLDER"
            )
        return cls._read(family, folder, spec, names)

    @classmethod
    def _read(
        cls, family: Family, folder: Path, spec: ModelSpec, names: Sequence[str] = ()
    ) -> Self:
        config = read_object(folder / "config.json")
        kind = config.get("model_type")
        if kind != family.model_type:
            raise EmbedderUnavailable(
                f"{folder} holds a model of the type {kind!r}, but {family.title} is a "
                f"{family.model_type!r}: choose another --model"
            )
        resizing = Resizing.read(folder / "preprocessor_config.json")
        tokenizer = folder / "tokenizer.json"
        vision, text = (_model_file(folder, tower, names) for tower in ("vision", "text"))
        dim = _number(folder, config, *family.dim)
        length = _number(folder, config, ("text_config", "max_position_embeddings"), family.length)
        digest = hashlib.sha256(repr((resizing, length, dim)).encode())
        digest.update(_read_bytes(tokenizer))
        for path in (vision, text, *_external_data(vision), *_external_data(text)):
            digest.update(_probe(path))
        likeness = family.likeness.get(spec.argument) or family.likeness.get("")
        return cls(
            *(family, spec, vision, text, tokenizer, resizing, length, dim, likeness),
            digest.hexdigest(),
        )

    @property
    def quantised(self) -> bool:
        """Whether the vision model computes in integers."""
        return not self.vision.stem.endswith(_FLOATING)

    def session(self, path: Path, device: str | None) -> "InferenceSession":
        """Load one of its models.

        Raises:
            EmbedderUnavailable: it is damaged, or there is no such device.
        """
        try:
            return open_session(path, device)
        except EmbedderUnavailable:
            raise
        except Exception as error:  # each status of onnxruntime is a class
            reason = str(error).strip().splitlines()[0].rpartition("failed:")[2]
            raise EmbedderUnavailable(
                f"{path} is damaged or of another format ({reason:.200}): download or copy it again"
            ) from error

    def tokenizer(self) -> "Tokenizer":
        """Load the tokenizer, which cuts, and where the family does so fills, texts to `length`.

        Raises:
            EmbedderUnavailable: it is damaged, or that of another kind of model.
        """
        from tokenizers import Tokenizer, normalizers

        try:
            tokenizer = Tokenizer.from_file(str(self.tokenizer_file))
        except Exception as error:  # tokenizers raises plain Exception
            raise EmbedderUnavailable(
                f"{self.tokenizer_file} is damaged ({error}): download or copy it again"
            ) from error
        for token in self.family.special_tokens:
            if tokenizer.token_to_id(token) is None:
                raise EmbedderUnavailable(
                    f"{self.tokenizer_file} has no {token}, so it is not that of a "
                    f"{self.family.title} model"
                )
        if self.family.lower_case:
            given = [tokenizer.normalizer] if tokenizer.normalizer else []
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *given])
        tokenizer.enable_truncation(self.length)  # special tokens at the end are kept
        tokenizer.no_padding()
        if (filling := self.family.padding) is not None:
            number = tokenizer.token_to_id(filling)
            tokenizer.enable_padding(pad_id=number, pad_token=filling, length=self.length)
        return tokenizer


def _sides(size: Any) -> list[Any]:
    """Return the sides in 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    return list(size.values()) if isinstance(size, dict) else [size]


def _model_file(folder: Path, tower: str, names: Sequence[str]) -> Path:
    """Return the first file of a tower that is there, of those names or of any precision."""
    stem = f"onnx/{tower}_model"
    accepted = [name for name in names if name.startswith(stem)]
    accepted = accepted or [f"{stem}{precision}.onnx" for precision in _PRECISIONS]
    for name in accepted:
        path = folder / name
        if path.is_file():
            # A download that broke off, a page of an error, or a pointer of Git LFS.
            if (size := path.stat().st_size) < _MIN_MODEL_BYTES:
                raise EmbedderUnavailable(
                    f"{path} is damaged, it has only {size} bytes: download or copy it again"
                )
            return path
    raise EmbedderUnavailable(
        f"the model in {folder} is incomplete, it has no {accepted[0]}: download or copy it again"
    )


def _number(folder: Path, config: Mapping[str, Any], place: Sequence[str], default: int) -> int:
    """Return a positive number of a configuration."""
    value: Any = config
    for name in place:
        value = value.get(name, {}) if isinstance(value, dict) else None
    if value == {}:
        return default
    if type(value) is not int or not 1 <= value <= 65_536:
        raise EmbedderUnavailable(
            f"{folder / 'config.json'} has a {'.'.join(place)} that is not a positive number"
        )
    return value


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise EmbedderUnavailable(
            f"the model in {path.parent} is incomplete, it has no {path.name}: download or copy "
            "it again"
        ) from error


def _external_data(path: Path) -> list[Path]:
    """Return the files beside a model that hold its weights, where they exceed 2 GB."""
    return sorted(path.parent.glob(f"{path.name}_data*"))


def _probe(path: Path) -> bytes:
    """Return the SHA-256 over the size of a file and over blocks evenly spread in it."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for block in range(_PROBES):
            file.seek(max(0, size - _PROBED_BYTES) * block // (_PROBES - 1))
            digest.update(file.read(_PROBED_BYTES))
    return digest.digest()
