"""Names of files inside rows → paths, checked when the row is read."""

from pathlib import Path

from trainer.data.ledger import BrokenRow


def existing(folder: Path, name: str) -> Path:
    """The path of a file that a row names.

    Rows whose file is missing are found when they are read, hours before they would be decoded.

    Args:
        folder: What relative names start from.
        name: As the row has it.

    Raises:
        BrokenRow: there is no such file.
    """
    if not name.strip() or "\0" in name:
        raise BrokenRow(f"{name!r} is not a name of a file")
    path = folder / name
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long, or a folder that may not be entered
        raise BrokenRow(f"{path} cannot be read: {error.strerror}") from error
    if not found:
        raise BrokenRow(f"{path} does not exist" if not path.is_dir() else f"{path} is a folder")
    return path
