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
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise EmbedderUnavailable(
                f"the weights of mini cannot be read ({error}); install the package again"
            ) from error
        if manifest.get("schema") != SCHEMA:
            raise EmbedderUnavailable(
                f"{folder / MANIFEST} has schema {manifest.get('schema')}, this version reads "
                f"{SCHEMA}; install matching versions of the program and its weights"
            )
        self.files: dict[str, dict[str, Any]] = manifest["files"]

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
