"""Transactions: money moves from one account to the other, all of it or none, and never more than there is.

With a member on port 2379, or where `ETCDCTL_ENDPOINTS` points: `python examples/python/txn.py`
"""

from keystead import Client, Key, KeyValue, Put


def transfer(client: Client, source: str, target: str, amount: int) -> bool:
    """Moves `amount`; false when there is less."""
    while True:
        giver, taker = client.get(source), client.get(target)
        left = balance(giver) - amount
        if left < 0:
            return False
        done = client.txn(
            # Nobody else has touched either account since they were read.
            when=[
                Key(source).mod_revision == (giver.mod_revision if giver else 0),
                Key(target).mod_revision == (taker.mod_revision if taker else 0),
            ],
            then=[Put(source, str(left)), Put(target, str(balance(taker) + amount))],
        )
        if done.succeeded:
            return True


def balance(kv: KeyValue | None) -> int:
    return int(kv.value) if kv else 0


with Client(from_env=True, namespace="examples/txn/") as client:
    client.put("alice", "10")
    client.put("bob", "0")

    for amount in (7, 2, 5):
        if transfer(client, "alice", "bob", amount):
            print(f"{amount} moved in one step")
        else:
            print(f"{amount} is more than there is")
    for name in ("alice", "bob"):
        print(f"{name} has {balance(client.get(name))}")
