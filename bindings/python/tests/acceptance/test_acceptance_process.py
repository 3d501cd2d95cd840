"""Processes as they are run: prefork servers, loops that are thrown away, uvloop."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import keystead


def run(program: str, server: keystead.Server) -> str:
    """Runs a program of which nothing is left over at the end, and gives what it printed."""
    # From 3.12 on Python warns of every fork beside a thread; that it harms nothing is what is tested.
    options = ["-X", "faulthandler", "-W", "ignore::DeprecationWarning"]
    command = [sys.executable, *options, "-c", textwrap.dedent(program), server.endpoint]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_prefork_server_shares_a_client_among_its_workers(server: keystead.Server) -> None:
    program = """
        import os, sys, keystead
        # As gunicorn does with --preload: what is made once is used in each worker.
        client = keystead.Client(sys.argv[1])
        client.put("counter", "0")
        workers = []
        for _ in range(4):
            worker = os.fork()
            if worker == 0:
                for _ in range(10):
                    with client.lock("locks/counter"):
                        client.put("counter", str(int(client.get("counter").value) + 1))
                # An orderly exit, with everything that is done at exit.
                sys.exit(0)
            workers.append(worker)
        for worker in workers:
            assert os.waitpid(worker, 0)[1] == 0
        print(client.get("counter").value.decode())
    """
    assert run(program, server) == "40\n"


def test_a_loop_that_is_thrown_away_with_calls_in_flight_harms_nobody(server: keystead.Server) -> None:
    program = """
        import asyncio, gc, sys, keystead

        with keystead.Client(sys.argv[1]) as client, client.lock("locks/x"):
            for _ in range(3):
                loop = asyncio.new_event_loop()
                waits = client.aio.lock("locks/x")
                for _ in range(100):
                    loop.create_task(waits.__aenter__())
                loop.run_until_complete(asyncio.sleep(0.05))
                # Nobody awaits those tasks any more, which asyncio is right to complain of.
                loop.set_exception_handler(lambda *_: None)
                loop.close()
                del loop
                gc.collect()
            assert asyncio.run(client.aio.get("nothing")) is None
        print("done")
    """
    assert run(program, server) == "done\n"


def test_uvloop_works_and_so_does_the_next_one(server: keystead.Server) -> None:
    program = """
        import asyncio, sys, uvloop, keystead

        async def main():
            assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
            async with keystead.AsyncClient(sys.argv[1]) as client:
                await asyncio.gather(*(client.put(f"k/{n}", str(n)) for n in range(200)))
                async with client.lock("locks/x") as guard:
                    await guard.put("data", "fresh")
                seen = 0
                async with client.watch(prefix="k/", start_revision=1) as watch:
                    async for event in watch.events():
                        seen += 1
                        if seen == 200:
                            print("saw all")
                            return

        for _ in range(2):
            uvloop.run(main())
    """
    assert run(program, server) == "saw all\nsaw all\n"
