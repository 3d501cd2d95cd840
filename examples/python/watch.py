"""A watch: the state of some keys, then every change of them, through whatever happens to the connection.

With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `python examples/python/watch.py`
"""

import asyncio
import sys

from keystead import AsyncClient, Diff, Disconnected, Events, Reset, Resumed


async def main() -> None:
    async with AsyncClient(from_env=True, namespace="examples/watch/") as client:
        await client.delete(prefix="")
        await client.put("color", "red")
        await client.put("size", "small")

        # Should history be compacted while the watch is cut off, it tells what differs by then: it remembers up to 1000 keys.
        async with client.watch(prefix="", state_first=True, on_gap="diff", most_keys=1000) as watch:
            async for notice in watch:
                if isinstance(notice, Reset):
                    for kv in notice.kvs:
                        print(f"at first {kv.key!r} is {kv.value!r}")
                    if notice.last:
                        await client.put("color", "green")
                        await client.delete("size")
                        await client.put("done", "")
                # All changes of one revision at a time, or those that a gap hid.
                elif isinstance(notice, Events | Diff):
                    for event in notice.events:
                        print(f"{event.key!r} is {event.value!r}" if event.kind == "put" else f"{event.key!r} is gone")
                    if notice.events[-1].key == b"done":
                        break
                elif isinstance(notice, Disconnected):
                    print("cut off for now:", notice.error, file=sys.stderr)
                elif isinstance(notice, Resumed):
                    print("back, and nothing was missed", file=sys.stderr)
        await client.delete(prefix="")


asyncio.run(main())
