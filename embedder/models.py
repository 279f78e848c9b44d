"""The command `python -m embedder.models`, also installed as `rzen-models`: download models.

Exit status: 0 on success, 1 if a file is damaged or missing, 2 if the command cannot be carried
out, 130 if it was stopped by Ctrl-C (what was downloaded is kept; run it again to continue).
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from embedder.download import (
    FileState,
    fetch_with_bar,
    local_folder,
    own_folder,
    remove,
    verify,
)
from embedder.hub import HubModel, file_url, page_url
from embedder.interface import EmbedderError, EmbedderUnavailable, ModelSpec
from embedder.mllm import reranker
from embedder.registry import BACKENDS, hub_model

_PROGRAM = "rzen-models"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Download models from the Hugging Face hub, and look after what was "
        "downloaded. Nothing of yours is sent.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str, *, spec: bool = True) -> argparse.ArgumentParser:
        description = f"{summary[0].upper()}{summary[1:]}."
        added = commands.add_parser(name, help=summary, description=description)
        if spec:
            added.add_argument("spec", metavar="SPEC", help='the model, such as "siglip2"')
        return added

    models = command("list", "list the models, and which of them are on this machine", spec=False)
    models.add_argument(
        "--urls", action="store_true", help="list the addresses of their files, and SHA-256 sums"
    )
    models.add_argument("--json", action="store_true", help="print the list as JSON")
    download = command("fetch", "download a model, or go on with a download that was stopped")
    download.add_argument(
        "--to", metavar="DIR", type=Path, help="make this folder, for --model FAMILY:DIR"
    )
    command("remove", "delete a model that was downloaded, but not from folders of others")
    check = command("verify", "compare the files of a model with what is known of them")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return _COMMANDS[arguments.command](arguments)
    except (EmbedderError, OSError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"\n{_PROGRAM}: stopped; what was downloaded is kept, and the same command goes on "
            "from there",
            file=sys.stderr,
        )
        return 130


def _list(arguments: argparse.Namespace) -> int:
    if arguments.urls:
        for model, spec in _named().items():
            print(f"# {spec}")
            for file in model.files:
                url = file_url(model.repository, file.name, model.revision)
                print(f"{url}  {file.sha256 or '-'}")
        return 0
    rows = [_row(spec, model) for model, spec in _named().items()]
    if arguments.json:
        print(json.dumps(rows, indent=1, default=str))
        return 0
    width = max(len(str(row["spec"])) for row in rows)
    for row in rows:
        size = f"{row['megabytes']:,} MB" if row["megabytes"] else ""
        where = row["folder"] or row["problem"] or "not here"
        print(f"{row['spec']:{width}} {size:>9}  {row['licence']:11} {where}")
        facts = [row[name] for name in ("summary", "languages", "speed")]
        print(f"    {'; '.join(str(fact) for fact in facts if fact)}")
    return 0


def _named() -> Mapping[HubModel, str]:
    """Return the models that have a name here, with the shortest specification of each."""
    named: dict[HubModel, str] = {}
    for backend in BACKENDS.values():
        for argument in ("", *backend.variants):
            if (model := backend.hub_model(argument)) is not None:
                named.setdefault(model, str(ModelSpec(backend.family, argument)))
    for argument, model in reranker.FAMILY.models.items():
        named.setdefault(model, str(ModelSpec(reranker.FAMILY.name, argument)))
    return named


def _row(spec: str, model: HubModel) -> dict[str, object]:
    stated = ("repository", "revision", "summary", "megabytes", "languages", "speed", "licence")
    folder, problem = None, None
    try:
        folder = local_folder(model)
    except EmbedderUnavailable as error:  # one damaged download must not hide the others
        problem = str(error)
    return {
        "spec": spec,
        **{name: getattr(model, name) for name in stated},
        "folder": folder,
        "problem": problem,
    }


def _fetch(arguments: argparse.Namespace) -> int:
    spec, to = arguments.spec, arguments.to
    model = _model_of(spec)
    if to is None and (folder := local_folder(model)) is not None:
        print(f"{spec} is complete already, in {folder}")
        return 0
    size = f", about {model.megabytes:,} MB," if model.megabytes else ""
    print(
        f"Downloading {spec}{size} from {page_url(model.repository)} to {to or own_folder(model)}",
        file=sys.stderr,
    )
    folder = fetch_with_bar(model, to=to)
    family = ModelSpec.parse(spec).family
    use = ModelSpec(family, str(folder.absolute())) if to else spec
    option = "--reranker" if family == reranker.FAMILY.name else "--model"
    print(f"It is complete; use it by {option} {use}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    print(f"Deleted {remove(_model_of(arguments.spec))}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    argument = ModelSpec.parse(arguments.spec).argument
    in_folder = bool(argument) and Path(argument).is_dir()
    model = None if in_folder else _model_of(arguments.spec)
    folder = local_folder(model) if model else Path(argument)
    if folder is None:
        raise EmbedderUnavailable(
            f"{arguments.spec} is not here: download it with `rzen-models fetch {arguments.spec}`"
        )
    states = verify(model, folder)
    broken = not {FileState.DAMAGED, FileState.MISSING}.isdisjoint(states.values())
    if arguments.json:
        print(json.dumps({"folder": str(folder), "files": states}, indent=1))
        return int(broken)
    print(folder)
    for name, state in states.items():
        print(f"  {name}: {state}")
    if broken:
        print("Delete the damaged files, and download the model again.")
    return int(broken)


def _model_of(spec: str) -> HubModel:
    """Return what a specification stands for on the hub.

    Raises:
        EmbedderUnavailable: it needs no download.
    """
    model = hub_model(spec)
    if model is None:
        raise EmbedderUnavailable(
            f"{spec} is in this package or in a folder, so there is nothing to download"
        )
    return model


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "fetch": _fetch,
    "remove": _remove,
    "verify": _verify,
}


if __name__ == "__main__":
    sys.exit(main())
