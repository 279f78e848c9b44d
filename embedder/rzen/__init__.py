"""RzenEmbed: a Qwen2-VL that embeds texts, pictures, videos, pages and mixes of them.

settings    prompts, positions and limits of a checkpoint (rzen.json)
checkpoint  files on disk or the hub, checked and named
pictures    sizes and patches
template    a content → a sequence of tokens
schedule    which sequences go through the model together
backbone    the model: pictures and sequences → embeddings    (the only one that loads torch)
embedder    all of it behind the project's interface
"""

from collections.abc import Mapping

from embedder.content import Modality
from embedder.rzen.checkpoint import Checkpoint
from embedder.rzen.embedder import RzenEmbedder
from embedder.rzen.settings import Settings

__all__ = ["Checkpoint", "RzenEmbedder", "Settings", "open_rzen"]


def open_rzen(
    argument: str = "",
    *,
    device: str | None = None,
    dtype: str | None = None,
    instructions: Mapping[Modality, str] | None = None,
) -> RzenEmbedder:
    """Opens a checkpoint; see `embedder.open_embedder`.

    Args:
        argument: A folder, a name on the hub, or nothing for the released weights.
        device: Where to run.
        dtype: In which precision.
        instructions: What documents of a modality are told, in place of the checkpoint's own.

    Raises:
        EmbedderUnavailable: it cannot be opened; the message says what to do.
    """
    checkpoint = Checkpoint.find(argument)
    settings = Settings.of(checkpoint.directory).instructed(instructions or {})
    return RzenEmbedder(checkpoint, settings, device, dtype)
