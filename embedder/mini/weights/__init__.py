"""The shipped weights of `mini`: data files that cannot run code, and the manifest that lists them.

manifest.json gives for every file its size, its SHA-256 and where it comes from. The revision of
the embedder is a digest over the files that change vectors, so vectors made with other weights
are never mixed with these unnoticed.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from embedder.interface import EmbedderUnavailable

FOLDER = Path(__file__).parent
MANIFEST = "manifest.json"
SCHEMA = 1


class Weights:
    """A folder of weights with its manifest; files are checked as they are read."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Reads the manifest only.

        Raises:
            EmbedderUnavailable: the manifest is missing or of another schema version.
        """
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise EmbedderUnavailable(
                f"the weights of mini cannot be read ({error}); install the package again"
            ) from error
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if schema != SCHEMA:
            raise EmbedderUnavailable(
                f"{folder / MANIFEST} has schema {schema}, this version reads "
                f"{SCHEMA}; install matching versions of the program and its weights"
            )
        self.files: dict[str, dict[str, Any]] = manifest.get("files")
        if not _are_files(self.files):
            raise EmbedderUnavailable(
                f"{folder / MANIFEST} does not list files with their SHA-256; install the package "
                "again"
            )

    @property
    def revision(self) -> str:
        """Twelve hexadecimal digits over every file that changes vectors."""
        stated = [f"{n} {f['sha256']}" for n, f in sorted(self.files.items()) if f["in_revision"]]
        return hashlib.sha256("\n".join(stated).encode()).hexdigest()[:12]

    def read(self, name: str) -> bytes:
        """The content of one file, after its digest was compared with the manifest.

        Raises:
            EmbedderUnavailable: the file is missing, not in the manifest, or was changed.
        """
        path = self.folder / name
        try:
            content = path.read_bytes()
            expected = self.files[name]["sha256"]
        except (OSError, KeyError) as error:
            raise EmbedderUnavailable(
                f"the weights of mini are incomplete ({error}); install the package again"
            ) from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise EmbedderUnavailable(
                f"{path} is not the file that was shipped (its SHA-256 differs from the "
                f"manifest); install the package again"
            )
        return content


def _are_files(stated: object) -> bool:
    return isinstance(stated, dict) and all(
        isinstance(one, dict)
        and isinstance(one.get("sha256"), str)
        and isinstance(one.get("in_revision"), bool)
        for one in stated.values()
    )
