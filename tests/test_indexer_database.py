import sqlite3
from pathlib import Path

from indexer.database import Database


def test_an_answer_that_was_not_read_to_its_end_keeps_nobody_from_writing(tmp_path: Path):
    path = tmp_path / "library.sqlite3"
    database = Database(path)
    with database.writing() as connection:
        for number in range(300):
            connection.exec_driver_sql(
                "INSERT INTO media (content_hash, kind) VALUES (?, 'text')", (str(number),)
            )
    with database.reading() as connection:
        answer = connection.connection.cursor().execute("SELECT * FROM media")
        answer.fetchone()
    other = sqlite3.connect(path)
    other.execute("DELETE FROM media WHERE id = 7")
    other.commit()
    other.close()
    with database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM media WHERE id = 8")
    assert answer is not None
    database.close()
