"""A cache: keys in memory that follow the store, for reads that cost nothing, and reads that miss nothing.

With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `python examples/python/cache.py`
"""

import keystead


def tell(news: keystead.CacheSubscription) -> None:
    """What a subscriber is told: the state, then each revision that changes it."""
    notice = news.next()
    if notice is None:
        return
    if notice.kind == "state":
        print(f"the state has {len(notice.kvs)} keys")
    for event in notice.events:
        before = event.prev_kv.value if event.prev_kv else b""
        print(f"{before!r} is {event.value!r}" if event.kind == "put" else f"{before!r} is gone")


with keystead.Client(from_env=True, namespace="examples/cache/") as client:
    client.delete(prefix="")
    client.put("config/color", "red")
    client.put("config/size", "small")

    config = client.cache(prefix="config/")
    print(len(config), "keys")
    news = config.subscribe()
    tell(news)

    # A read asks nobody. After a sync it shows whatever anybody wrote before.
    client.put("config/color", "green")
    config.sync()
    print("the color is", config["config/color"].value)

    # What was written here is there as soon as the cache has reached its revision.
    deleted = client.delete("config/size")
    config.reach(deleted.header.revision)
    print(f"{len(config)} key at one revision")
    print("connected:", config.lag().connected)

    tell(news)
    tell(news)
