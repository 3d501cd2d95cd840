"""Several ways to a member, of which one turns into a black hole."""

from __future__ import annotations

import contextlib
import time

from relay import Mode, Relay

import keystead

# The promise is ten seconds; a machine that is busy with other things gets twice that.
BLACK_HOLE_LIMIT = 20.0


def test_a_way_that_turns_into_a_black_hole_is_left_and_no_outcome_lies(
    server: keystead.Server,
) -> None:
    with contextlib.ExitStack() as open_ones:
        ways = [open_ones.enter_context(Relay(server.endpoint)) for _ in range(2)]
        client = open_ones.enter_context(server.client())
        through = open_ones.enter_context(keystead.Client([way.endpoint for way in ways], deadline=5))
        ledger: dict[str, keystead.Outcome] = {}

        def write_until_answered() -> None:
            while True:
                key = f"k{len(ledger)}"
                try:
                    through.put(key, "v")
                except keystead.KeysteadError as error:
                    ledger[key] = error.outcome
                else:
                    ledger[key] = keystead.Outcome.APPLIED
                    return

        write_until_answered()
        # Each in turn: one of the two is in use.
        for way in ways:
            way.set(Mode.SWALLOW)
            begin = time.monotonic()
            write_until_answered()
            assert time.monotonic() - begin < BLACK_HOLE_LIMIT
            way.set(Mode.OPEN)
            write_until_answered()

        for key, outcome in ledger.items():
            kv = client.get(key)
            versions = kv.version if kv else 0
            possible = {"APPLIED": {1}, "NOT_APPLIED": {0}, "UNKNOWN": {0, 1}}[outcome.name]
            assert versions in possible, (key, outcome)
