"""A registry: services say where they are, clients find them, and whoever dies or leaves is found no longer.

With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `python examples/python/registry.py`
"""

import keystead

with keystead.Client(from_env=True, namespace="examples/registry/") as client:
    api = client.resolve("api")

    # Registered for as long as this process lives, and withdrawn at the end of the block.
    with (
        client.register("api", "10.0.0.1:80", metadata={"zone": "a"}) as first,
        client.register("api", "10.0.0.2:80"),
    ):
        known = api.endpoints()
        while len(known) < 2:
            known = api.changed(known)
        for endpoint in known:
            print(endpoint.address, endpoint.metadata)
        for _ in range(3):
            if picked := api.pick():
                print("ask", picked.address)

        # An operator takes the lease away. Both are registered again by themselves, with another one.
        state = first.state
        client.revoke(client.range(prefix="api/")[0].lease)
        while state.loss is None or state.name == "lost":
            state = first.changed(state)
        print("registered again after it was", state.loss)

    while known:
        known = api.changed(known)
    print("found now:", api.pick("random"))
