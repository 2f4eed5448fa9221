"""Drives a server with gRPC's core, by the Python package grpcio.

ETCD_ENDPOINT says where the server is, ETCD_PROTOS where the project's .proto files are: the stubs are
made of them here and now. With the word `restart` it is about a server that ends and comes back: when
it prints `restart`, whoever runs it is to end the server kindly and start it anew.
"""

import asyncio
import hashlib
import os
import sys
import time
import urllib.parse

sys.path.insert(0, os.environ["ETCD_PROTOS"])

import grpc  # noqa: E402  It finds protos in the path above.

kv, kv_service = grpc.protos_and_services("etcdserverpb/kv.proto")
watch, watch_service = grpc.protos_and_services("etcdserverpb/watch.proto")
lease, lease_service = grpc.protos_and_services("etcdserverpb/lease.proto")
lock, lock_service = grpc.protos_and_services("v3lockpb/v3lock.proto")
snap, snap_service = grpc.protos_and_services("etcdserverpb/maintenance.proto")

PREFIX = b"interop/grpcio/"
AFTER = PREFIX[:-1] + b"0"
DEADLINE_S = 20
REQUEST_MAX = 2 * 1024 * 1024
UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
ADDRESS = urllib.parse.urlparse(os.environ["ETCD_ENDPOINT"]).netloc


class Client:
    """A connection of its own, and stubs for it."""

    def __init__(self, *options):
        own = [("grpc.use_local_subchannel_pool", 1), *UNBOUNDED, *options]
        self.channel = grpc.aio.insecure_channel(ADDRESS, options=own)
        self.kv = kv_service.KVStub(self.channel)
        self.watches = watch_service.WatchStub(self.channel)
        self.leases = lease_service.LeaseStub(self.channel)
        self.locks = lock_service.LockStub(self.channel)
        self.maintenance = snap_service.MaintenanceStub(self.channel)

    async def put(self, key, value, **options):
        return await self.kv.Put(kv.PutRequest(key=PREFIX + key, value=value), **options)

    async def get(self, key, **options):
        got = await self.kv.Range(kv.RangeRequest(key=PREFIX + key), **options)
        return [pair.value for pair in got.kvs]

    async def watch(self, key, end=b"", **options):
        call = self.watches.Watch(**options)
        create = watch.WatchCreateRequest(key=PREFIX + key, range_end=end)
        await call.write(watch.WatchRequest(create_request=create))
        assert (await call.read()).created
        return call

    async def counts(self, prefix, n):
        """Waits until so many keys begin with the prefix; the test's deadline is this one's."""
        keys = kv.RangeRequest(key=PREFIX + prefix, range_end=PREFIX + prefix[:-1] + b"0", count_only=True)
        while (await self.kv.Range(keys)).count != n:
            await asyncio.sleep(0.01)

    async def works(self):
        await self.put(b"works", b"1")
        assert await self.get(b"works") == [b"1"]


# The client's clock and the server's run to the same deadline: a server that is first resets the stream.
OUT_OF_TIME = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


async def refused(call, code, text=None):
    """The call must fail with `code`, or one of them, and in these words."""
    codes = code if isinstance(code, tuple) else (code,)
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        assert error.code() in codes, f"{error.code()}: {error.details()}"
        assert text is None or error.details() == text, error.details()
        return error
    raise AssertionError(f"not refused: {answer!r:.200}")


async def a_key_is_put_read_and_deleted(client):
    put = await client.put(b"a", b"1")
    got = await client.kv.Range(kv.RangeRequest(key=PREFIX + b"a"))
    assert got.kvs[0].value == b"1" and got.kvs[0].mod_revision == put.header.revision, got
    deleted = await client.kv.DeleteRange(kv.DeleteRangeRequest(key=PREFIX + b"a", prev_kv=True))
    assert deleted.deleted == 1 and deleted.prev_kvs[0].value == b"1", deleted
    assert await client.get(b"a") == []


async def a_transaction_compares_and_branches(client):
    compare = kv.Compare(key=PREFIX + b"t", target=kv.Compare.VERSION, result=kv.Compare.EQUAL, version=0)
    put = kv.RequestOp(request_put=kv.PutRequest(key=PREFIX + b"t", value=b"new"))
    get = kv.RequestOp(request_range=kv.RangeRequest(key=PREFIX + b"t"))
    txn = kv.TxnRequest(compare=[compare], success=[put], failure=[get])
    assert (await client.kv.Txn(txn)).succeeded
    second = await client.kv.Txn(txn)
    assert not second.succeeded and second.responses[0].response_range.kvs[0].value == b"new", second


async def refusals_have_etcds_codes_and_words(client):
    code = grpc.StatusCode
    await refused(client.kv.Range(kv.RangeRequest()), code.INVALID_ARGUMENT, "etcdserver: key is not provided")
    absent = kv.PutRequest(key=PREFIX + b"x", lease=4711)
    await refused(client.kv.Put(absent), code.NOT_FOUND, "etcdserver: requested lease not found")
    revision = (await client.put(b"c", b"1")).header.revision
    await client.put(b"c", b"2")
    await client.kv.Compact(kv.CompactionRequest(revision=revision + 1))
    past = kv.RangeRequest(key=PREFIX + b"c", revision=revision)
    text = "etcdserver: mvcc: required revision has been compacted"
    await refused(client.kv.Range(past), code.OUT_OF_RANGE, text)
    nothing = client.channel.unary_unary("/etcdserverpb.KV/Nothing")
    await refused(nothing(b""), code.UNIMPLEMENTED, "unknown method Nothing for service etcdserverpb.KV")
    nobody = client.channel.unary_unary("/a.B/C")
    await refused(nobody(b""), code.UNIMPLEMENTED, "unknown service a.B")
    broken = client.channel.unary_unary("/etcdserverpb.KV/Range")
    await refused(broken(b"\xff"), code.INTERNAL)


async def deadlines_end_calls_that_wait(client):
    leases = [await client.leases.LeaseGrant(lease.LeaseGrantRequest(TTL=30)) for _ in range(2)]
    name = PREFIX + b"lock"
    await client.locks.Lock(lock.LockRequest(name=name, lease=leases[0].ID))
    start = time.monotonic()
    second = client.locks.Lock(lock.LockRequest(name=name, lease=leases[1].ID), timeout=0.3)
    await refused(second, OUT_OF_TIME)
    assert time.monotonic() - start < 5
    # Long enough for a busy server to begin the watch.
    call = await client.watch(b"quiet", timeout=3)
    await refused(call.read(), OUT_OF_TIME)
    for granted in leases:
        await client.leases.LeaseRevoke(lease.LeaseRevokeRequest(ID=granted.ID))
    await client.works()


async def a_call_can_be_cancelled(client):
    call = await client.watch(b"cancelled")
    call.cancel()
    assert await call.code() == grpc.StatusCode.CANCELLED
    granted = [await client.leases.LeaseGrant(lease.LeaseGrantRequest(TTL=30)) for _ in range(2)]
    first = await client.locks.Lock(lock.LockRequest(name=PREFIX + b"c", lease=granted[0].ID))
    waiting = client.locks.Lock(lock.LockRequest(name=PREFIX + b"c", lease=granted[1].ID))
    await client.counts(b"c/", 2)
    waiting.cancel()
    assert await waiting.code() == grpc.StatusCode.CANCELLED
    await client.counts(b"c/", 1)  # Whoever gives up leaves the queue.
    await client.locks.Unlock(lock.UnlockRequest(key=first.key))
    await client.works()


async def a_snapshot_is_streamed_whole(client):
    digest, tail, size, left = hashlib.sha256(), b"", 0, 1 << 62
    async for part in client.maintenance.Snapshot(snap.SnapshotRequest()):
        size += len(part.blob)
        assert part.remaining_bytes <= left
        left = part.remaining_bytes
        whole = tail + part.blob
        digest.update(whole[:-32])
        tail = whole[-32:]
    assert left == 0 and size > 32 and digest.digest() == tail, (left, size)


async def a_range_is_streamed(client):
    for n in range(0, 500, 50):
        puts = [kv.PutRequest(key=PREFIX + b"r%03d" % (n + i), value=bytes(1000)) for i in range(50)]
        await client.kv.Txn(kv.TxnRequest(success=[kv.RequestOp(request_put=put) for put in puts]))
    keys, last = [], None
    everything = kv.RangeRequest(key=PREFIX + b"r", range_end=PREFIX + b"s")
    async for part in client.kv.RangeStream(everything):
        keys += [pair.key for pair in part.range_response.kvs]
        last = part.range_response
    assert keys == [PREFIX + b"r%03d" % n for n in range(500)], len(keys)
    assert last.count == 500 and last.header.revision > 0, last.count


async def a_watch_tells_a_thousand_changes_in_order(client):
    call = await client.watch(b"w", PREFIX + b"x")
    for n in range(0, 1000, 100):
        puts = [kv.PutRequest(key=PREFIX + b"w%d" % (n + i), value=b"%d" % (n + i)) for i in range(100)]
        await client.kv.Txn(kv.TxnRequest(success=[kv.RequestOp(request_put=put) for put in puts]))
    seen = []
    while len(seen) < 1000:
        seen += [int(event.kv.value) for event in (await call.read()).events]
    assert seen == list(range(1000))
    await call.done_writing()
    call.cancel()


async def a_lease_is_kept_alive(client):
    granted = await client.leases.LeaseGrant(lease.LeaseGrantRequest(TTL=30))
    call = client.leases.LeaseKeepAlive()
    for _ in range(3):
        await call.write(lease.LeaseKeepAliveRequest(ID=granted.ID))
        answer = await call.read()
        assert answer.ID == granted.ID and answer.TTL == 30, answer
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def large_messages_pass_up_to_the_limit(client):
    fits = 1_500_000
    await client.put(b"large", bytes(fits))
    assert await client.get(b"large") == [bytes(fits)]

    def sized(size):
        """A put whose encoding is so many bytes long."""
        put = kv.PutRequest(key=PREFIX + b"l")
        put.value = bytes(size - put.ByteSize() - 5)
        put.value += bytes(size - put.ByteSize())
        return put

    code = grpc.StatusCode
    under = sized(REQUEST_MAX)
    await refused(client.kv.Put(under), code.INVALID_ARGUMENT, "etcdserver: request is too large")
    over = f"grpc: received message larger than max ({REQUEST_MAX + 1} vs. {REQUEST_MAX})"
    await refused(client.kv.Put(sized(REQUEST_MAX + 1)), code.RESOURCE_EXHAUSTED, over)
    await client.works()


async def metadata_of_all_kinds_is_taken(client):
    for pairs in [
        [("hasleader", "true")],
        [("x-unknown", "1"), ("x-unknown", "2")],
        [("x-anything-bin", bytes(range(256)))],
        [("client-api-version", "3.7.1"), ("token", "x")],
        [("x-long", "x" * 4000)],
    ]:
        assert await client.get(b"nothing", metadata=pairs) == [], pairs


async def compressed_requests_are_read(client):
    gzip = grpc.Compression.Gzip
    value = b"compress me " * 50_000
    await client.put(b"z", value, compression=gzip)
    assert await client.get(b"z", compression=gzip) == [value]
    call = await client.watch(b"zz", compression=gzip)
    await client.put(b"zz", value)
    assert (await call.read()).events[0].kv.value == value
    call.cancel()
    bomb = client.put(b"z", bytes(64 * 1024 * 1024), compression=gzip)
    await refused(bomb, grpc.StatusCode.RESOURCE_EXHAUSTED)
    deflate = client.put(b"z", value, compression=grpc.Compression.Deflate)
    text = 'grpc: Decompressor is not installed for grpc-encoding "deflate"'
    await refused(deflate, grpc.StatusCode.UNIMPLEMENTED, text)
    await client.works()


async def pings_faster_than_allowed_end_the_connection(_):
    hasty = Client(
        ("grpc.keepalive_time_ms", 100),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 100),
    )
    call = await hasty.watch(b"quiet")
    error = await refused(call.read(), grpc.StatusCode.UNAVAILABLE)
    assert "too_many_pings" in error.details() or "ping" in error.details().lower(), error.details()
    await hasty.works()
    await hasty.channel.close()


async def a_thousand_streams_share_a_connection(client):
    calls = await asyncio.gather(*[client.watch(b"m%d" % n) for n in range(1000)])
    gets = await asyncio.gather(*[client.get(b"nothing") for _ in range(1000)])
    assert gets == [[]] * 1000
    await asyncio.gather(*[client.put(b"m%d" % n, b"%d" % n) for n in range(1000)])
    told = await asyncio.gather(*[call.read() for call in calls])
    assert [int(answer.events[0].kv.value) for answer in told] == list(range(1000))
    for call in calls:
        call.cancel()


async def a_server_that_ends_says_goodbye_and_is_found_again(client):
    await client.put(b"kept", b"1")
    call = await client.watch(b"quiet")
    print("restart", flush=True)
    await refused(call.read(), grpc.StatusCode.UNAVAILABLE)
    assert await client.get(b"kept", wait_for_ready=True) == [b"1"]


TESTS = [
    a_key_is_put_read_and_deleted,
    a_transaction_compares_and_branches,
    refusals_have_etcds_codes_and_words,
    deadlines_end_calls_that_wait,
    a_call_can_be_cancelled,
    a_snapshot_is_streamed_whole,
    a_range_is_streamed,
    a_watch_tells_a_thousand_changes_in_order,
    a_lease_is_kept_alive,
    large_messages_pass_up_to_the_limit,
    metadata_of_all_kinds_is_taken,
    compressed_requests_are_read,
    pings_faster_than_allowed_end_the_connection,
    a_thousand_streams_share_a_connection,
]


async def main():
    tests = [a_server_that_ends_says_goodbye_and_is_found_again] if "restart" in sys.argv else TESTS
    client = Client()
    failed = 0
    for test in tests:
        name = test.__name__.replace("_", " ")
        try:
            async with asyncio.timeout(DEADLINE_S):
                await client.kv.DeleteRange(kv.DeleteRangeRequest(key=PREFIX, range_end=AFTER))
                await test(client)
            print(f"ok     {name}", flush=True)
        except Exception as error:  # Whatever it is, it is this test's failure.
            failed += 1
            print(f"FAILED {name}: {error!r}", flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed", flush=True)
    os._exit(1 if failed else 0)


asyncio.run(main())
