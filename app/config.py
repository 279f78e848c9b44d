"""The page's configuration: an immutable model, read from flags, then variables, then defaults."""

import argparse
import ipaddress
import os
import re
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+")
_DEFAULT_QUOTA_BYTES = 10 << 30  # For all uploads together, where anyone may send some.


class AppConfig(BaseModel):
    """How the page is served; each field is a flag and, if it takes a value, a variable.

    Attributes:
        auth: User and password that every request needs, or None.
        token: What a request may carry in place of a password, or None. Without both, everyone
            who can connect is admitted; `parse` gives a local page a random token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: Path | None = Field(default=None, title="DIR", description="folder of the library")
    model: str | None = Field(
        default=None, title="SPEC", description="embedding model for a new library"
    )
    device: str | None = Field(
        default=None, title="D", description="run the model on this device: cpu, cuda, cuda:1, mps"
    )
    dtype: str | None = Field(
        default=None, title="T", description="precision of the model: float32, bfloat16, float16"
    )
    reranker: str | None = Field(
        default=None,
        title="SPEC",
        description="rerank PDF pages with this model, such as qwen3-vl-reranker; for GPUs",
    )
    offer: tuple[str, ...] = Field(
        default=(),
        title="SPEC",
        description="offer another model that the page can switch the library to, such as "
        "rzen:DIR; repeatable (separate several by commas in RZEN_OFFER)",
    )
    host: str = Field(default="127.0.0.1", description="address to listen on (default: 127.0.0.1)")
    port: int = Field(
        default=7860, ge=0, le=65535, description="port to listen on, 0 for any (default: 7860)"
    )
    name: tuple[str, ...] = Field(
        default=(),
        title="NAME",
        description="also answer to this host name, such as photos.example.org; repeatable "
        "(separate several by commas in RZEN_NAME)",
    )
    proxy: tuple[str, ...] = Field(
        default=(),
        title="ADDRESS",
        description="trust X-Forwarded-For and X-Forwarded-Proto from this proxy; repeatable "
        "(separate several by commas in RZEN_PROXY)",
    )
    auth: tuple[str, str] | None = Field(
        default=None,
        title="USER:PASSWORD",
        description="require a login; use RZEN_AUTH to keep it out of the list of processes",
    )
    token: str | None = Field(
        default=None,
        min_length=16,
        pattern="^[!-~]*$",
        title="TOKEN",
        description="accept this Bearer token instead of a login (default: a new one is printed); "
        "use RZEN_TOKEN to keep it out of the list of processes",
    )
    max_upload_mb: int = Field(
        default=4096,
        ge=1,
        title="N",
        description="limit each upload to N megabytes (default: 4096)",
    )
    max_uploads_mb: int | None = Field(
        default=None,
        ge=1,
        title="N",
        description="limit all uploads in the library together to N megabytes (default: what the "
        "disk holds for its owner; 10240 where others reach the page without a login)",
    )
    no_ocr: bool | None = Field(default=None, description="do not read the words in pictures")
    open: bool = Field(default=False, description="show the page in the browser")

    @field_validator("auth", mode="before")
    @classmethod
    def _split_login(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        user, _, password = value.partition(":")
        if not (user and password):
            raise ValueError("write it as user:password, neither of them empty")
        return user, password

    @field_validator("offer", "name", "proxy", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return parts
        return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))

    @field_validator("name")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_HOST_NAME.fullmatch(name) for name in names):
            raise ValueError("write a host name without http:// and port")
        return tuple(name.lower() for name in names)

    @field_validator("proxy")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ipaddress.ip_network(proxy)
        return proxies

    @property
    def max_upload_bytes(self) -> int:
        """The largest single file that can be uploaded, in bytes."""
        return self.max_upload_mb << 20

    @property
    def max_uploads_bytes(self) -> int | None:
        """The most bytes of all uploads together; None for as many as the disk holds."""
        if self.max_uploads_mb is not None:
            return self.max_uploads_mb << 20
        return None if self.trusted else _DEFAULT_QUOTA_BYTES

    @property
    def names(self) -> frozenset[str]:
        """The names, in lower case, by which the page may be opened besides IP addresses."""
        machine = socket.gethostname().lower()
        short = machine.partition(".")[0]
        own = {"localhost", self.host.lower(), machine, short, f"{short}.local"}
        return frozenset(own | set(self.name))

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
    def admits_own_user(self) -> bool:
        """Whether programs of the user who starts the page are admitted without a token.

        The system has to tell them apart, and no proxy may stand for programs of others.
        """
        alone = self.loopback and self.auth is None and not self.proxy
        return alone and sys.platform == "linux"

    @property
    def trusted(self) -> bool:
        """Whether all users own this machine, or have a password or token.

        Trusted users may name the machine's folders, move copies in them to the trash, see where
        files and models are stored, and change the library's model.
        """
        return self.loopback or self.auth is not None or self.token is not None


def parse(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> AppConfig:
    """Read flags; a flag that is absent falls back to its RZEN_ variable.

    A page for this machine only, which other users of it can reach, gets a token if it has neither
    that nor a login.

    Raises:
        SystemExit: with status 2 and a message on standard error if a value is invalid.
    """
    parser = _parser()
    values = {
        name: value
        for name in AppConfig.model_fields
        if name != "open" and (value := environment.get(f"RZEN_{name.upper()}"))
    }
    values |= {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    try:
        config = AppConfig.model_validate({k: v for k, v in values.items() if v != ""})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        shown = "" if name in ("auth", "token") else f", not {first['input']!r}"
        parser.error(f"argument --{name.replace('_', '-')}: {first['msg']}{shown}")
    if config.trusted and config.auth is None and config.token is None:
        return config.model_copy(update={"token": secrets.token_urlsafe(24)})
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rzen-app",
        description="Serve the page that searches a library of pictures, videos, PDFs and texts.",
        epilog="Each flag with a value also has a variable: --library is RZEN_LIBRARY, and so on.",
    )
    for name, field in AppConfig.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        if name in ("open", "no_ocr"):
            parser.add_argument(flag, action="store_true", default=None, help=field.description)
        else:
            action = "append" if name in ("offer", "name", "proxy") else "store"
            parser.add_argument(flag, action=action, metavar=field.title, help=field.description)
    return parser
