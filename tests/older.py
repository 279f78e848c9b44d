"""Databases as older versions of the program left them."""

from collections.abc import Callable

from indexer.catalog.migrations import MIGRATIONS

_TABLES = ("item_counts", "segment_counts", "folders", "unheld", "name_parts_held", "name_parts")
_TRIGGERS = [
    statement.split()[2]
    for statement in MIGRATIONS[3].statements
    if statement.startswith("CREATE TRIGGER")
]

UNDONE = {
    2: (
        "ALTER TABLE library DROP COLUMN instructions",
        "DROP TABLE pending",
        "DROP TABLE pending_vectors",
    ),
    3: ("ALTER TABLE library DROP COLUMN pruned",),
    4: (
        *(f"DROP TRIGGER {name}" for name in _TRIGGERS),
        *(f"DROP TABLE {name}" for name in _TABLES),
        "DROP INDEX items_listed",
        "DROP INDEX items_listed_by_kind",
        "DROP INDEX items_modified",
        "CREATE INDEX items_status ON items (status)",
        "ALTER TABLE library DROP COLUMN near_generation",
    ),
}
"""What takes each step back."""


def take_back(execute: Callable[[str], object], step: int) -> None:
    """Makes a database one whose last step is this one.

    Args:
        execute: Runs a statement.
        step: From 1.
    """
    assert max(UNDONE) == MIGRATIONS[-1].number
    for number in range(MIGRATIONS[-1].number, step, -1):
        for statement in UNDONE[number]:
            execute(statement)
    execute(f"DELETE FROM migrations WHERE number > {step}")
