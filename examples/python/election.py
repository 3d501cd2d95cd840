"""An election: one of many leads, what it says is heard, and the next one follows.

With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `python examples/python/election.py`
"""

import asyncio

from keystead import AsyncClient, AsyncLeaderObserver


async def hear(observer: AsyncLeaderObserver) -> None:
    event = await observer.next()
    if event.value is not None:
        print(event.value.decode(), "leads")
    else:
        print("nobody leads" if event.kind == "no_leader" else "nobody knows who leads")


async def main() -> None:
    async with AsyncClient(from_env=True, namespace="examples/election/") as client:
        election = client.election("scheduler")
        observer = election.observe()
        await hear(observer)

        async with election.campaign("10.0.0.1") as first:
            await hear(observer)

            # Whoever leads may write what only the leader may.
            await first.put("plan", "made by 10.0.0.1")
            await first.proclaim("10.0.0.1, draining")
            await hear(observer)

            # The next candidate waits, and leads as soon as the first one steps down.
            candidate = asyncio.ensure_future(election.campaign("10.0.0.2"))
        async with await candidate as second:
            print("the next term is later:", second.term > first.term)
        print("somebody leads:", await election.leader() is not None)


asyncio.run(main())
