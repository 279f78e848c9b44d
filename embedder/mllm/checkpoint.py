"""A checkpoint on disk: found or downloaded, checked before it is loaded, and fingerprinted."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from embedder.download import fetch_with_bar
from embedder.hub import HUB_ID, HubModel, channels, read_object
from embedder.interface import EmbedderUnavailable, ModelSpec
from embedder.mllm.families import FILES, RZEN, Family

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WEIGHTS_NAME = re.compile(r"[\w.-]+\.safetensors")
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
_NO_PICKLES = "; *.bin, *.pt and the like are not read, since such files can run code"
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_PROBED_BYTES = 4096
# Entries of a config file that change no vector.
_TRANSIENT = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype"})


@dataclass(frozen=True, slots=True)
class _Tensor:
    """The header of a tensor, and a hash of some of its bytes.

    Its repr is part of fingerprints: renaming it or a field would invalidate every library.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    probe: str


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoint:
    """A model in a folder, complete as far as can be checked without loading it.

    Attributes:
        family: What it has in common with others.
        directory: Its folder.
        spec: The specification that opens it.
        config: The content of its config.json.
        mean: Mean of the pictures it was trained on, by channel, from 0 to 1.
        std: Their standard deviation.
        parameters: The number of its weights.
        digest: SHA-256 over the weights, the tokenizer and the configuration. Of each tensor, the
            first and last 4 KiB are hashed: training changes whole tensors, and reading gigabytes
            would take seconds. How tensors are spread over files does not matter.
    """

    family: Family
    directory: Path
    spec: str
    config: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    parameters: int
    digest: str

    @classmethod
    def find(cls, argument: str = "", family: Family = RZEN) -> Self:
        """Find a checkpoint, and download it from the hub if it is not on this machine.

        Args:
            argument: One of the family's names, a folder, or a name on the hub.
            family: Its family.

        Raises:
            EmbedderUnavailable: it is missing and cannot be downloaded, is incomplete or damaged,
                or is of another architecture.
        """
        spec = str(ModelSpec(family.name, argument))
        if named := family.models.get(argument):
            return cls._of_hub(family, named, spec)
        path = Path(os.path.expanduser(argument))  # noqa: PTH111 -- Path.expanduser raises for unknown users.
        try:
            if path.exists() or not HUB_ID.fullmatch(argument):
                if not path.is_dir():
                    raise EmbedderUnavailable(
                        f"there is no folder {path} with weights of {family.title}: give a folder, "
                        f"a name on the Hugging Face hub, or {family.name}"
                    )
                directory = path.resolve()
                return cls._read(family, directory, str(ModelSpec(family.name, str(directory))))
        except OSError as error:
            reason = error.strerror or error
            raise EmbedderUnavailable(f"{path} cannot be read: {reason}") from error
        return cls._of_hub(family, HubModel(argument, FILES), spec)

    @classmethod
    def _of_hub(cls, family: Family, model: HubModel, spec: str) -> Self:
        """Open a model of the hub; missing files are downloaded, with progress."""
        try:
            folder = fetch_with_bar(model)
        except EmbedderUnavailable as error:
            raise EmbedderUnavailable(
                f"the weights of {model.repository} are not on this machine and could not be "
                f"downloaded ({error}). Try again with `rzen-models fetch {spec}`, or copy a "
                f"folder with them here and name it: {family.name}:FOLDER"
            ) from error
        return cls._read(family, folder, spec)

    @classmethod
    def _read(cls, family: Family, directory: Path, spec: str) -> Self:
        remedy = _remedy(family, spec)
        config = read_object(directory / "config.json")
        _check_architecture(family, directory, config)
        vocabulary = next(
            (directory / n for n in _TOKENIZER_FILES if (directory / n).is_file()), None
        )
        if vocabulary is None:
            raise EmbedderUnavailable(f"{directory} has no tokenizer.json: {remedy}")
        path = directory / "preprocessor_config.json"
        pictures = read_object(path) if path.is_file() else {}
        mean = channels(path, pictures, "image_mean", family.mean)
        std = channels(path, pictures, "image_std", family.std)
        tensors = sorted(
            (one for path in _weight_files(directory, remedy) for one in _tensors(path, remedy)),
            key=lambda one: one.name,
        )
        digest = hashlib.sha256(json.dumps(_lasting(config), sort_keys=True).encode())
        digest.update(repr((mean, std)).encode())
        digest.update(vocabulary.read_bytes())
        for tensor in tensors:
            digest.update(repr(tensor).encode())
        parameters = sum(math.prod(tensor.shape) for tensor in tensors)
        return cls(*(family, directory, spec, config, mean, std, parameters, digest.hexdigest()))

    @property
    def dim(self) -> int:
        """Length of the hidden states."""
        return int(self.config.get("text_config", self.config)["hidden_size"])

    def tokenizer(self) -> "Tokenizer":
        """Load the tokenizer."""
        from tokenizers import Tokenizer

        path = self.directory / "tokenizer.json"
        try:
            if path.is_file():
                return Tokenizer.from_file(str(path))
            from transformers import AutoTokenizer

            slow = AutoTokenizer.from_pretrained(
                self.directory, local_files_only=True, trust_remote_code=False
            )
            return slow.backend_tokenizer
        except Exception as error:  # tokenizers raises plain Exception
            raise EmbedderUnavailable(
                f"the tokenizer in {self.directory} cannot be read ({error}): "
                f"{_remedy(self.family, self.spec)}"
            ) from error


def _weight_files(directory: Path, remedy: str) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        names = _names(index, remedy)
    else:
        names = sorted(path.name for path in directory.glob("*.safetensors"))
    missing = [name for name in names if not (directory / name).is_file()]
    if missing or not names:
        what = ", ".join(missing) or "any *.safetensors file"
        pickled = "" if names or not _pickled(directory) else _NO_PICKLES
        raise EmbedderUnavailable(
            f"the weights in {directory} are incomplete, missing {what}: {remedy}{pickled}"
        )
    return [directory / name for name in names]


def _names(index: Path, remedy: str) -> list[str]:
    """Return the names of the files that an index lists."""
    places = read_object(index).get("weight_map")
    stated = list(places.values()) if isinstance(places, dict) else [places]
    names = {name for name in stated if isinstance(name, str) and _WEIGHTS_NAME.fullmatch(name)}
    if not all(isinstance(name, str) and name in names for name in stated):
        raise EmbedderUnavailable(
            f"{index} names other files than *.safetensors beside it: {remedy}"
        )
    return sorted(names)


def _pickled(directory: Path) -> bool:
    return any(path.suffix in _PICKLES for path in directory.iterdir())


def _check_architecture(family: Family, directory: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if kind != family.model_type:
        raise EmbedderUnavailable(
            f"{directory} holds a model of the type {kind!r}, but {family.title} is a "
            f"{family.model_type!r}: choose another model"
        )
    text, vision = config.get("text_config", config), config.get("vision_config", {})
    width = text.get("hidden_size") if isinstance(text, dict) else None
    if not isinstance(vision, dict) or type(width) is not int or width < 1:
        raise EmbedderUnavailable(f"{directory / 'config.json'} does not describe a {kind}")
    expected = {
        "patch_size": family.patch_side,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    for name, value in expected.items():
        if vision.get(name, value) != value:
            raise EmbedderUnavailable(
                f"the vision encoder in {directory} has {name} {vision[name]}, not {value} as "
                f"{family.title}"
            )


def _tensors(path: Path, remedy: str) -> Iterator[_Tensor]:
    """Yield the tensors of a safetensors file.

    Source:
        The safetensors format: eight bytes with the length of a JSON header, the header, data.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start = 8 + length
        if start > size:
            raise EmbedderUnavailable(f"{path} is truncated or damaged: {remedy}")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            found = [_stated(name, tensor) for name, tensor in header.items()]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EmbedderUnavailable(f"{path} is damaged: {remedy}") from error
        end = start + max((last for *_, last in found), default=0)
        if end > size:
            raise EmbedderUnavailable(
                f"{path} is truncated, {size:,} of {end:,} bytes are there: {remedy}"
            )
        for name, dtype, shape, first, last in found:
            probe = hashlib.sha256()
            for offset in (first, max(first, last - _PROBED_BYTES)):
                file.seek(start + offset)
                probe.update(file.read(min(_PROBED_BYTES, last - offset)))
            yield _Tensor(name, dtype, shape, probe.hexdigest())


def _stated(name: str, tensor: Mapping[str, Any]) -> tuple[str, str, tuple[int, ...], int, int]:
    """Return name, type and shape, and the range of bytes, counted from the end of the header."""
    dtype, shape, (first, last) = tensor["dtype"], tuple(tensor["shape"]), tensor["data_offsets"]
    whole = all(type(number) is int and number >= 0 for number in (*shape, first, last))
    if not isinstance(dtype, str) or not whole or first > last:
        raise ValueError(name)
    return name, dtype, shape, first, last


def _lasting(value: Any) -> Any:
    """Return a configuration without entries that change no vector."""
    if isinstance(value, dict):
        return {name: _lasting(one) for name, one in value.items() if name not in _TRANSIENT}
    return value


def _remedy(family: Family, spec: str) -> str:
    """Return how to get undamaged files."""
    argument = ModelSpec.parse(spec).argument
    named = family.models.get(argument)
    name = named.repository if named else argument
    if HUB_ID.fullmatch(name):
        return f"check it with `rzen-models verify {spec}`"
    return "copy the folder again from its source"
