"""A lock: one holder at a time, and writes that only the holder can make.

With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `python examples/python/lock.py`
"""

import keystead

with keystead.Client(from_env=True, namespace="examples/lock/") as client:
    guard = client.lock("report").lock()
    print("it is ours:", guard.held)
    guard.put("report", "first edition")

    print("free for another:", client.try_lock("report") is not None)
    try:
        with client.lock("report", timeout="200ms"):
            print("this can't be")
    except keystead.LockTimeout as error:
        print("after a while of waiting:", type(error).__name__)

    # An operator breaks the lock, and another one takes it.
    client.delete(guard.key)
    with client.lock("report") as holder:
        print("the next token is higher:", holder.fencing_token > guard.fencing_token)
        holder.put("report", "second edition")

        # The first holder does not know yet. Its write is refused by the server, in one step with the question.
        try:
            guard.put("report", "third edition")
        except keystead.LockLost:
            print("the first one lost it")

    report = client.get("report")
    assert report is not None
    print(report.value.decode())
