"""The pytest plugin: a member for the tests of a session, and a client with a namespace of its own for each test.

pytest loads it by its entry point wherever the package `keystead` is installed; a session without the fixtures pays nothing but
the import. The member is that of `keystead.Server`, so `KEYSTEAD_BIN` and `pip install keystead[server]` say which.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from keystead import Server

if TYPE_CHECKING:
    from keystead import AsyncClient, Client


@pytest.fixture(scope="session")
def keystead_server() -> Iterator[Server]:
    """A member that is started for the first test that asks, and ended after the last."""
    with Server() as server:
        yield server


@pytest.fixture
def keystead_namespace() -> str:
    """The prefix below which `keystead_client` and `keystead_async_client` see the store in this test."""
    return f"pytest/{uuid.uuid4().hex}/"


@pytest.fixture
def keystead_client(keystead_server: Server, keystead_namespace: str) -> Iterator[Client]:
    """A client that sees an empty store: keys are those of a namespace of this test's own, and are deleted after it."""
    with keystead_server.client(namespace=keystead_namespace) as client:
        yield client
        client.delete(prefix="")


try:
    import pytest_asyncio
except ImportError:
    pass
else:

    @pytest_asyncio.fixture
    async def keystead_async_client(keystead_server: Server, keystead_namespace: str) -> AsyncIterator[AsyncClient]:
        """The same for tests of asyncio, where pytest-asyncio is installed. It sees what `keystead_client` sees."""
        async with keystead_server.async_client(namespace=keystead_namespace) as client:
            yield client
            await client.delete(prefix="")
