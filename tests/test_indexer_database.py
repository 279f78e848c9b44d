from pathlib import Path

import pytest

from indexer.catalog.sqlite import Database


@pytest.fixture
def database(tmp_path: Path):
    database = Database(tmp_path / "library.sqlite3")
    with database.writing() as connection:
        add(connection, 300)
    yield database
    database.close()


def add(connection, count: int) -> None:
    for _ in range(count):
        connection.exec_driver_sql(
            "INSERT INTO media (content_hash, kind, generation) "
            "VALUES (hex(randomblob(8)), 'text', 1)"
        )


def count(database: Database) -> int:
    with database.reading() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM media").scalar_one()


def test_an_answer_that_was_not_read_to_its_end_leaves_the_next_reader_in_the_present(database):
    with database.reading() as connection:
        answer = connection.exec_driver_sql("SELECT * FROM media")
        answer.fetchone()
    with database.writing() as connection:
        add(connection, 5)
    assert count(database) == 305
    assert answer is not None


def test_an_answer_that_was_not_read_to_its_end_keeps_nobody_from_writing(database):
    with database.reading() as connection:
        answer = connection.connection.cursor().execute("SELECT * FROM media")
        answer.fetchone()
    for _ in range(2):
        with database.writing() as connection:
            add(connection, 1)
    assert answer is not None


def test_what_is_read_in_a_moment_is_of_that_moment(database):
    with database.moment():
        before = count(database)
        with database.writing() as connection:
            add(connection, 1)
        assert count(database) == before
    assert count(database) == before + 1


def test_a_transaction_that_fails_changes_nothing(database):
    def fail() -> None:
        with database.writing() as connection:
            add(connection, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert count(database) == 300
