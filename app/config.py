"""The page's configuration: one frozen value, from flags over environment over defaults."""

import argparse
import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_STRANGERS_BYTES = 10 << 30  # All uploads together, where anyone may send some.


@dataclass(frozen=True, slots=True)
class AppConfig:
    """How the page is served.

    Attributes:
        library: The library's folder; None takes the indexer's default.
        model: Name of the embedder; None takes the library's own.
        device: Where models run, for those that can choose; None lets them.
        dtype: Their precision, likewise.
        offer: Further models that visitors may switch the library to.
        host: Address to listen on.
        port: Port to listen on; 0 lets the system choose one.
        auth: User and password that everything asks for, or None.
        max_upload_bytes: Largest single file that can be sent to the page.
        max_uploads_bytes: Most bytes of all files that were uploaded to the library and are still
            in it; None for as many as the disk holds.
        open: Show the page in a browser of this machine, if it has a screen.
    """

    library: Path | None = None
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    offer: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = None
    max_upload_bytes: int = 4 << 30
    max_uploads_bytes: int | None = None
    open: bool = False

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def trusted(self) -> bool:
        """Whether visitors own this machine or have logged in.

        They may name its folders, see where its models lie, and change the library's model.
        """
        return self.loopback or self.auth is not None


def parse(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> AppConfig:
    """Reads flags; a flag that is absent falls back to its RZEN_ variable.

    Raises:
        SystemExit: with status 2 and a sentence if a value makes no sense.
    """
    parser = _parser()
    given = parser.parse_args(arguments)

    def value(name: str, default: str) -> str:
        flag = getattr(given, name)
        return flag if flag is not None else environment.get(f"RZEN_{name.upper()}") or default

    port, size = value("port", "7860"), value("max_upload_mb", "4096")
    together = value("max_uploads_mb", "")
    if not port.isdecimal() or int(port) > 65535:
        parser.error(f"the port must be a number from 0 to 65535, not {port!r}")
    if not size.isdecimal() or int(size) < 1:
        parser.error(f"the largest upload must be a number of megabytes, not {size!r}")
    if together and not (together.isdecimal() and int(together) >= 1):
        parser.error(f"all uploads together must be a number of megabytes, not {together!r}")
    login = value("auth", "")
    user, colon, password = login.partition(":")
    if login and not (user and colon and password):
        parser.error("the login must be written user:password, with neither of them empty")
    folder = value("library", "")
    offer = given.offer or environment.get("RZEN_OFFER", "").split(",")
    config = AppConfig(
        library=Path(folder) if folder else None,
        model=value("model", "") or None,
        device=value("device", "") or None,
        dtype=value("dtype", "") or None,
        offer=tuple(dict.fromkeys(spec.strip() for spec in offer if spec.strip())),
        host=value("host", "127.0.0.1"),
        port=int(port),
        auth=(user, password) if login else None,
        max_upload_bytes=int(size) << 20,
        max_uploads_bytes=int(together) << 20 if together else None,
        open=given.open,
    )
    if config.trusted or together:
        return config
    return replace(config, max_uploads_bytes=_STRANGERS_BYTES)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rzen-app",
        description="Serve the page that searches a library of pictures, videos, PDFs and texts.",
        epilog="Each flag with a value also has a variable: --library is RZEN_LIBRARY, and so on.",
    )
    parser.add_argument("--library", metavar="DIR", help="folder of the library")
    parser.add_argument("--model", metavar="SPEC", help="embedding model, for a new library")
    parser.add_argument(
        "--device", metavar="D", help="where the model runs: cpu, cuda, cuda:1, mps"
    )
    parser.add_argument("--dtype", metavar="T", help="its precision: float32, bfloat16, float16")
    parser.add_argument(
        "--offer",
        metavar="SPEC",
        action="append",
        help="a further model that the page can switch the library to, such as rzen:DIR; may be "
        "given several times (in RZEN_OFFER they are separated by commas)",
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on, 0 for any (default: 7860)")
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask for a login; RZEN_AUTH keeps it out of the list of processes",
    )
    parser.add_argument(
        "--max-upload-mb",
        metavar="N",
        help="largest single file that can be uploaded, in megabytes (default: 4096)",
    )
    parser.add_argument(
        "--max-uploads-mb",
        metavar="N",
        help="most megabytes of all uploads in the library together (default: what the disk holds "
        "for its owner; 10240 where others reach the page without a login)",
    )
    return parser
