"""Keys and values: write, read, list, change what is there, and see what an error says.

With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `python examples/python/kv.py`
"""

import keystead

# Everything happens within this prefix, and no other key is seen.
with keystead.Client(from_env=True, namespace="examples/kv/") as client:
    client.delete(prefix="")

    written = client.put("greeting", "hello")
    client.put("greeting", "good morning")
    now = client.get("greeting")
    assert now is not None
    print(f"greeting is {now.value!r}, version {now.version}")

    before = client.range("greeting", revision=written.revision)
    print(f"it was {before[0].value!r}")

    for fruit in ("apple", "banana", "cherry"):
        client.put(f"fruit/{fruit}", "1 kg")
    # A scan reads any number of keys at one revision, a page at a time.
    for kv in client.scan(prefix="fruit/"):
        print(kv.key)

    # Read, decide, write if nobody was faster; again until it works.
    client.update("visits", lambda now: (now.value if now else b"") + b"|")

    try:
        client.range("greeting", revision=2**63 - 1)
    except keystead.FutureRevision as error:
        print(f"{type(error).__name__}, {error.outcome.name}: {error.args[0]}")

    print(client.delete(prefix="").deleted, "keys removed")
