"""Drives a server with the Python package etcd3gw, over the JSON gateway.

ETCD_ENDPOINT says where the server is.
"""

import os
import sys
import threading
import urllib.parse

import etcd3gw
from etcd3gw.exceptions import Etcd3Exception

PREFIX = "interop/python/"
DEADLINE = 20


def a_put_is_read_back(client):
    assert client.put(PREFIX + "a", "1")
    assert client.put(PREFIX + "a", "2")
    value, meta = client.get(PREFIX + "a", metadata=True)[0]
    assert value.decode() == "2", value
    assert meta["version"] == "2", meta
    assert client.get(PREFIX + "nothing") == []


def a_prefix_is_listed_in_order(client):
    for i in range(5):
        client.put(PREFIX + f"k{i}", str(9 - i))
    found = client.get_prefix(PREFIX + "k", sort_order="descend", sort_target="value")
    assert [v for v, _ in found] == [b"9", b"8", b"7", b"6", b"5"], found
    assert client.delete_prefix(PREFIX + "k")
    assert client.get_prefix(PREFIX + "k") == []


def a_key_is_created_and_replaced_by_transaction(client):
    assert client.create(PREFIX + "t", "1")
    assert not client.create(PREFIX + "t", "2")
    assert client.replace(PREFIX + "t", "1", "3")
    assert not client.replace(PREFIX + "t", "1", "4")
    assert client.get(PREFIX + "t") == [b"3"]


def a_lease_is_refreshed_and_revoked(client):
    lease = client.lease(ttl=30)
    client.put(PREFIX + "l", "1", lease=lease)
    assert 0 < lease.ttl() <= 30
    assert lease.refresh() == 30
    assert lease.keys() == [(PREFIX + "l").encode()], lease.keys()
    assert lease.revoke()
    assert client.get(PREFIX + "l") == []


def a_watch_tells_changes(client):
    events, cancel = client.watch_prefix(PREFIX + "w")
    try:
        client.put(PREFIX + "w1", "1")
        client.delete(PREFIX + "w1")
        first = next(events)
        second = next(events)
        assert first["kv"]["value"] == b"1", first
        assert second["type"] == "DELETE", second
    finally:
        cancel()


def a_lock_excludes_others(client):
    first = client.lock(PREFIX + "lock", ttl=30)
    second = client.lock(PREFIX + "lock", ttl=30)
    assert first.acquire()
    assert not second.acquire()
    assert first.release()
    assert second.acquire()
    assert second.release()


def an_error_is_an_exception(client):
    try:
        client.get("")
    except Etcd3Exception as error:
        assert "key is not provided" in error.detail_text, error.detail_text
    else:
        raise AssertionError("no exception")


def the_member_tells_its_status(client):
    status = client.status()
    assert status["leader"] != "0", status
    assert client.members()


TESTS = [
    a_put_is_read_back,
    a_prefix_is_listed_in_order,
    a_key_is_created_and_replaced_by_transaction,
    a_lease_is_refreshed_and_revoked,
    a_watch_tells_changes,
    a_lock_excludes_others,
    an_error_is_an_exception,
    the_member_tells_its_status,
]


def run(test, client):
    """The exception a test ended with, or nothing."""
    ended = []

    def body():
        try:
            client.delete_prefix(PREFIX)
            test(client)
            ended.append(None)
        except Exception as error:  # Whatever it is, it is this test's failure.
            ended.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    return ended[0] if ended else TimeoutError("no end in time")


def main():
    url = urllib.parse.urlparse(os.environ["ETCD_ENDPOINT"])
    client = etcd3gw.client(host=url.hostname, port=url.port, api_path="/v3/")
    failed = 0
    for test in TESTS:
        error = run(test, client)
        name = test.__name__.replace("_", " ")
        if error is None:
            print(f"ok     {name}")
        else:
            failed += 1
            print(f"FAILED {name}: {error!r}")
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    sys.stdout.flush()
    os._exit(1 if failed else 0)


main()
