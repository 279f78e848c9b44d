"""Queues that are bounded by cost and can be closed under waiting threads."""

import threading

import pytest

from indexer.errors import Closed
from indexer.ingest.queues import ByteBoundedQueue


def test_queue_order():
    channel: ByteBoundedQueue[int] = ByteBoundedQueue(10)
    for number in (1, 2):
        channel.put(number)
    channel.put_first([0])
    assert [channel.take() for _ in range(3)] == [0, 1, 2]
    assert channel.take(timeout=0) is None


def test_put_waits_for_room():
    channel: ByteBoundedQueue[str] = ByteBoundedQueue(10)
    channel.put("large", cost=99)
    put = threading.Event()

    def follow() -> None:
        channel.put("next", cost=5)
        put.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert not put.wait(0.05)
    assert channel.take() == "large"
    assert put.wait(5)
    thread.join()


def test_close_wakes_waiting_threads():
    channel: ByteBoundedQueue[int] = ByteBoundedQueue(1)
    channel.put(1)
    ended: list[type] = []

    def wait() -> None:
        try:
            channel.put(2)
        except Closed as error:
            ended.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    channel.close()
    thread.join(5)
    assert ended == [Closed]
    assert channel.take() == 1
    with pytest.raises(Closed):
        channel.take()
