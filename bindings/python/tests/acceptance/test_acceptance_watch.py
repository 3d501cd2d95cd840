"""A watch over a cluster that is put back to an older state."""

from __future__ import annotations

import shutil

import keystead

# No step takes a tenth of it, unless the machine is busy.
PATIENCE = 60.0

Copy = dict[bytes, bytes]


def follow(copy: Copy, watch: keystead.Watch) -> keystead.Notice:
    """Does to a copy what the watch tells next, and gives that."""
    notice = watch.next(PATIENCE)
    assert notice is not None
    if isinstance(notice, keystead.Reset):
        if notice.page == 0:
            copy.clear()
        copy.update({kv.key: kv.value for kv in notice.kvs})
    elif isinstance(notice, keystead.Events):
        copy.update({event.key: event.value for event in notice.events})
    return notice


def test_a_watch_over_a_member_put_back_to_an_older_state_is_told_of_it(server: keystead.Server) -> None:
    with server.client(deadline="60s") as client:
        client.put("k/kept", "1")
        backup = server.directory.with_name("backup")
        server.kill()
        shutil.copytree(server.directory, backup)
        server.start()
        with client.watch(prefix="k/", state_first=True) as watch:
            copy: Copy = {}
            for number in range(20):
                client.put(f"k/lost/{number}", "1")
            while len(copy) < 21:
                follow(copy, watch)
            server.kill()
            shutil.rmtree(server.directory)
            shutil.copytree(backup, server.directory)
            server.start()
            restored = False
            while not restored:
                notice = follow(copy, watch)
                if isinstance(notice, keystead.Reset):
                    assert notice.cause == "restored"
                    restored = notice.last
            assert copy == {b"k/kept": b"1"}
            client.put("k/end", "")
            while b"k/end" not in copy:
                follow(copy, watch)
