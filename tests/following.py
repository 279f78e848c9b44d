"""Follows the page's job, in tests."""

import asyncio
import time
from collections.abc import Callable

from app.jobs import JobState
from app.page import events
from app.services import Services


def follow(page: Services) -> list[events.Update]:
    """Return all that a page shows while a job runs."""

    async def updates() -> list[events.Update]:
        return [update async for update in events.LibraryView(page).follow()]

    return asyncio.run(updates())


def state_once(page: Services, reached: Callable[[JobState], object]) -> JobState:
    """Wait until the job's state is as wanted, and return it."""
    while not reached(state := page.jobs.state):
        time.sleep(0.01)
    return state
