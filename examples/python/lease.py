"""Leases: keys that go when whoever wrote them does.

With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `python examples/python/lease.py`
"""

import keystead

TTL = "6s"

with keystead.Client(from_env=True, namespace="examples/lease/") as client:
    # A bare lease ends by itself unless somebody renews it.
    lease = client.lease(TTL)
    client.put("ticket", "valid", lease=lease)
    print(f"renewed for {lease.keep_alive():g} s")
    print("its keys:", lease.time_to_live(keys=True).keys)
    lease.revoke()
    print("the ticket is there:", client.get("ticket") is not None)

    # A session renews its lease for as long as it lives, and says when it is lost, and why.
    session = client.session(TTL)
    session.put("worker", "at work")
    print("the session is", session.state.name)
    client.revoke(session.lease)
    print("it was", session.lost())
    print("the worker is there:", client.get("worker") is not None)
