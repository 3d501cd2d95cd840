"""Users and tokens."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import keystead


@pytest.mark.parametrize("kind", ["keystead", "etcd"])
def test_a_role_that_changes_makes_no_call_fail(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    binary = request.getfixturevalue("etcd") if kind == "etcd" else None
    key = tmp_path / "key"
    key.write_text("a secret that only this test has")
    token = f"jwt,sign-method=HS256,ttl=10m,priv-key={key}"
    with keystead.Server(binary=binary, arguments=[f"--auth-token={token}"]) as server:
        with server.client() as setup:
            setup.auth.add_user("root", "rootpw")
            setup.auth.add_user("alice", "alicepw")
            setup.auth.add_role("writer")
            setup.auth.grant_permission("writer", "readwrite", prefix="a/")
            setup.auth.grant_role("root", "root")
            setup.auth.grant_role("alice", "writer")
            setup.auth.enable()
        with (
            server.client(user="root", password="rootpw") as root,
            server.client(user="alice", password="alicepw") as alice,
            alice.session(ttl=60) as session,
            alice.watch(prefix="a/") as watch,
        ):
            for letter in "bcd":
                alice.put("a/k", letter)
                # Every token of before is of an old revision now.
                root.auth.grant_permission("writer", "readwrite", prefix=f"{letter}/")
                assert alice.get("a/k") is not None
                alice.put(f"{letter}/k", "v")
                session.put(f"{letter}/here", "v")
            seen = [event.value for event in itertools.islice(watch.events(), 3)]
            assert seen == [b"b", b"c", b"d"]
            with pytest.raises(PermissionError):
                alice.put("z/k", "v")
