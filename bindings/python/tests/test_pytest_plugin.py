"""The fixtures of the pytest plugin, in sessions of their own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def run(pytester: pytest.Pytester, program: str, passed: int) -> None:
    pytester.makepyfile(program)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=passed)


def test_each_test_sees_an_empty_store_of_one_member(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import pytest

        pids = set()

        @pytest.mark.parametrize("round", range(3))
        def test_alone(keystead_client, keystead_server, round):
            assert keystead_client.get("greeting") is None
            keystead_client.put("greeting", "hello")
            pids.add(keystead_server.pid)
            assert len(pids) == 1

        def test_cleaned(keystead_server):
            with keystead_server.client() as client:
                assert client.range(prefix="").kvs == []
        """,
        passed=4,
    )


def test_a_test_of_asyncio_sees_what_the_others_do(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import pytest

        @pytest.mark.asyncio
        async def test_both(keystead_async_client, keystead_client):
            await keystead_async_client.put("greeting", "hello")
            assert keystead_client.get("greeting").value == b"hello"

        def test_cleaned(keystead_server):
            with keystead_server.client() as client:
                assert client.range(prefix="").kvs == []
        """,
        passed=2,
    )


def test_a_session_without_its_fixtures_starts_no_member(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYSTEAD_BIN", "/nowhere/keystead")
    run(pytester, "def test_something_else(): pass", passed=1)


def test_a_missing_binary_fails_the_test_and_says_how_to_get_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYSTEAD_BIN", "/nowhere/keystead")
    pytester.makepyfile("def test_it(keystead_client): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*KEYSTEAD_BIN names no program that can be run: /nowhere/keystead*"])
