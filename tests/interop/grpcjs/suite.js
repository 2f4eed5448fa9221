// Drives a server with the npm package @grpc/grpc-js.
//
// ETCD_ENDPOINT says where the server is, ETCD_PROTOS where the project's .proto files are. With the word
// `restart` it is about a server that ends and comes back: when it prints `restart`, whoever runs it is
// to end the server kindly and start it anew.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const PREFIX = 'interop/grpcjs/';
const AFTER = Buffer.from('interop/grpcjs0');
const DEADLINE_MS = 20_000;
const REQUEST_MAX = 2 * 1024 * 1024;
const ADDRESS = new URL(process.env.ETCD_ENDPOINT).host;
const FILES = ['kv', 'watch', 'lease', 'maintenance'].map((name) => `etcdserverpb/${name}.proto`);
const { etcdserverpb, v3lockpb } = grpc.loadPackageDefinition(
  loadSync([...FILES, 'v3lockpb/v3lock.proto'], {
    includeDirs: [process.env.ETCD_PROTOS], keepCase: true, longs: String, defaults: true,
  }),
);

const key = (name) => Buffer.from(PREFIX + name);

// A connection of its own, and calls that are promises.
class Client {
  constructor(options = {}) {
    const own = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1,
      'grpc.use_local_subchannel_pool': 1, ...options };
    const stub = (service) => new service(ADDRESS, grpc.credentials.createInsecure(), own);
    this.kv = stub(etcdserverpb.KV);
    const channelOverride = this.kv.getChannel();
    const shared = (service) => new service(ADDRESS, grpc.credentials.createInsecure(), { channelOverride });
    this.watches = shared(etcdserverpb.Watch);
    this.leases = shared(etcdserverpb.Lease);
    this.locks = shared(v3lockpb.Lock);
    this.maintenance = shared(etcdserverpb.Maintenance);
  }

  call(stub, method, request, options = {}, metadata = new grpc.Metadata()) {
    return new Promise((resolve, reject) => {
      stub[method](request, metadata, options, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  put(name, value, options, metadata) {
    return this.call(this.kv, 'Put', { key: key(name), value: Buffer.from(value) }, options, metadata);
  }

  async get(name, options, metadata) {
    const got = await this.call(this.kv, 'Range', { key: key(name) }, options, metadata);
    return got.kvs.map((pair) => pair.value);
  }

  // A watch that is set up, and its answers one by one.
  async watch(name, end, options = {}, metadata = new grpc.Metadata()) {
    const call = this.watches.Watch(metadata, options);
    call.write({ create_request: { key: key(name), range_end: end ? key(end) : '' } });
    const answers = incoming(call);
    assert.equal((await answers.next()).value.created, true);
    return { call, answers };
  }

  grant() {
    return this.call(this.leases, 'LeaseGrant', { TTL: 30 });
  }

  async works() {
    await this.put('works', '1');
    assert.equal(String(await this.get('works')), '1');
  }

  // Waits until so many keys begin with the prefix; the test's deadline is this one's.
  async counts(prefix, end, n) {
    const keys = { key: key(prefix), range_end: key(end), count_only: true };
    while ((await this.call(this.kv, 'Range', keys)).count !== String(n)) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  close() {
    this.kv.close();
  }
}

// The messages of a stream; ends as the stream ends.
function incoming(call) {
  return call[Symbol.asyncIterator]();
}

// The client's clock and the server's run to the same deadline: a server that is first resets the stream.
const OUT_OF_TIME = [grpc.status.DEADLINE_EXCEEDED, grpc.status.CANCELLED];

// Fails with `code`, or one of them.
async function refused(promise, code, text) {
  const error = await promise.then(() => null, (error) => error);
  assert.ok(error, 'not refused');
  assert.ok([code].flat().includes(error.code), error.message);
  if (text !== undefined) assert.equal(error.details, text);
  return error;
}

// Writes `n` keys `prefix0` …, a hundred to a transaction.
async function fill(client, prefix, n, value) {
  for (let first = 0; first < n; first += 100) {
    const success = [...Array(100).keys()].map((i) => (
      { request_put: { key: key(prefix + (first + i)), value: Buffer.from(value(first + i)) } }));
    await client.call(client.kv, 'Txn', { success });
  }
}

const tests = {
  async 'a key is put, read and deleted'(client) {
    const put = await client.put('a', '1');
    const got = await client.call(client.kv, 'Range', { key: key('a') });
    assert.equal(String(got.kvs[0].value), '1');
    assert.equal(got.kvs[0].mod_revision, put.header.revision);
    const deleted = await client.call(client.kv, 'DeleteRange', { key: key('a'), prev_kv: true });
    assert.equal(deleted.deleted, '1');
    assert.equal(String(deleted.prev_kvs[0].value), '1');
    assert.deepEqual(await client.get('a'), []);
  },

  async 'a transaction compares and branches'(client) {
    const txn = {
      compare: [{ key: key('t'), target: 'VERSION', result: 'EQUAL', version: 0 }],
      success: [{ request_put: { key: key('t'), value: Buffer.from('new') } }],
      failure: [{ request_range: { key: key('t') } }],
    };
    assert.equal((await client.call(client.kv, 'Txn', txn)).succeeded, true);
    const second = await client.call(client.kv, 'Txn', txn);
    assert.equal(second.succeeded, false);
    assert.equal(String(second.responses[0].response_range.kvs[0].value), 'new');
  },

  async 'refusals have etcd\'s codes and words'(client) {
    const { kv } = client;
    const unheard = (path) => new Promise((resolve, reject) => {
      const same = (bytes) => bytes;
      kv.makeUnaryRequest(path, same, same, Buffer.alloc(0), (e, answer) => (e ? reject(e) : resolve(answer)));
    });
    await refused(client.call(kv, 'Range', {}), grpc.status.INVALID_ARGUMENT, 'etcdserver: key is not provided');
    const absent = client.call(kv, 'Put', { key: key('x'), lease: 4711 });
    await refused(absent, grpc.status.NOT_FOUND, 'etcdserver: requested lease not found');
    const { revision } = (await client.put('c', '1')).header;
    await client.put('c', '2');
    await client.call(kv, 'Compact', { revision: Number(revision) + 1 });
    await refused(client.call(kv, 'Range', { key: key('c'), revision }), grpc.status.OUT_OF_RANGE,
      'etcdserver: mvcc: required revision has been compacted');
    await refused(unheard('/etcdserverpb.KV/Nothing'), grpc.status.UNIMPLEMENTED,
      'unknown method Nothing for service etcdserverpb.KV');
    await refused(unheard('/a.B/C'), grpc.status.UNIMPLEMENTED, 'unknown service a.B');
  },

  async 'deadlines end calls that wait'(client) {
    const within = (ms) => ({ deadline: Date.now() + ms });
    const leases = [await client.grant(), await client.grant()];
    await client.call(client.locks, 'Lock', { name: key('lock'), lease: leases[0].ID });
    const second = client.call(client.locks, 'Lock', { name: key('lock'), lease: leases[1].ID }, within(300));
    await refused(second, OUT_OF_TIME);
    // Long enough for a busy server to begin the watch.
    const { answers } = await client.watch('quiet', null, within(3000));
    await refused(answers.next(), OUT_OF_TIME);
    for (const { ID } of leases) await client.call(client.leases, 'LeaseRevoke', { ID });
    await client.works();
  },

  async 'a call can be cancelled'(client) {
    const { call, answers } = await client.watch('cancelled');
    call.cancel();
    await refused(answers.next(), grpc.status.CANCELLED);
    const leases = [await client.grant(), await client.grant()];
    const first = await client.call(client.locks, 'Lock', { name: key('c'), lease: leases[0].ID });
    let waiting;
    const gaveUp = new Promise((resolve, reject) => {
      waiting = client.locks.Lock({ name: key('c'), lease: leases[1].ID }, (e, got) => (e ? reject(e) : resolve(got)));
    });
    gaveUp.catch(() => {});
    await client.counts('c/', 'c0', 2);
    waiting.cancel();
    await refused(gaveUp, grpc.status.CANCELLED);
    await client.counts('c/', 'c0', 1); // Whoever gives up leaves the queue.
    await client.call(client.locks, 'Unlock', { key: first.key });
    await client.works();
  },

  async 'a snapshot is streamed whole'(client) {
    const parts = [];
    for await (const part of client.maintenance.Snapshot({})) parts.push(part.blob);
    const whole = Buffer.concat(parts);
    const digest = createHash('sha256').update(whole.subarray(0, -32)).digest();
    assert.ok(whole.length > 32 && digest.equals(whole.subarray(-32)));
  },

  async 'a range is streamed'(client) {
    await fill(client, 'r', 500, () => Buffer.alloc(1000));
    let keys = 0;
    let last;
    for await (const part of client.kv.RangeStream({ key: key('r'), range_end: key('s') })) {
      last = part.range_response;
      keys += last.kvs.length;
    }
    assert.equal(keys, 500);
    assert.equal(last.count, '500');
  },

  async 'a watch tells a thousand changes in order'(client) {
    const { call, answers } = await client.watch('w', 'x');
    await fill(client, 'w', 1000, String);
    const seen = [];
    while (seen.length < 1000) seen.push(...(await answers.next()).value.events.map((e) => String(e.kv.value)));
    assert.deepEqual(seen, [...Array(1000).keys()].map(String));
    call.end();
    call.on('error', () => {});
    call.cancel();
  },

  async 'a lease is kept alive'(client) {
    const { ID } = await client.grant();
    const call = client.leases.LeaseKeepAlive();
    const answers = incoming(call);
    for (let i = 0; i < 3; i++) {
      call.write({ ID });
      const { value } = await answers.next();
      assert.deepEqual([value.ID, value.TTL], [ID, '30']);
    }
    const status = new Promise((resolve) => call.on('status', resolve));
    call.end();
    assert.equal((await answers.next()).done, true);
    assert.equal((await status).code, grpc.status.OK);
  },

  async 'large messages pass up to the limit'(client) {
    await client.put('large', Buffer.alloc(1_500_000));
    assert.equal((await client.get('large'))[0].length, 1_500_000);
    // A key's tag and length, the value's tag, and three bytes of its length.
    const overhead = 2 + key('l').length + 1 + 3;
    const sized = (size) => client.put('l', Buffer.alloc(size - overhead));
    await refused(sized(REQUEST_MAX), grpc.status.INVALID_ARGUMENT, 'etcdserver: request is too large');
    await refused(sized(REQUEST_MAX + 1), grpc.status.RESOURCE_EXHAUSTED,
      `grpc: received message larger than max (${REQUEST_MAX + 1} vs. ${REQUEST_MAX})`);
    await client.works();
  },

  async 'metadata of all kinds is taken'(client) {
    const kinds = [
      { hasleader: 'true' },
      { 'x-unknown': '1' },
      { 'x-anything-bin': Buffer.from([...Array(256).keys()]) },
      { 'client-api-version': '3.7.1', token: 'x' },
      { 'x-long': 'x'.repeat(4000) },
    ];
    for (const kind of kinds) {
      const metadata = new grpc.Metadata();
      for (const [name, value] of Object.entries(kind)) metadata.add(name, value);
      assert.deepEqual(await client.get('nothing', {}, metadata), []);
    }
  },

  async 'compressed requests are read'() {
    const GZIP = grpc.compressionAlgorithms.gzip;
    const zipping = new Client({ 'grpc.default_compression_algorithm': GZIP });
    const value = Buffer.from('compress me '.repeat(50_000));
    await zipping.put('z', value);
    assert.ok((await zipping.get('z'))[0].equals(value));
    const { call, answers } = await zipping.watch('zz');
    await zipping.put('zz', value);
    assert.ok((await answers.next()).value.events[0].kv.value.equals(value));
    call.on('error', () => {});
    call.cancel();
    await refused(zipping.put('z', Buffer.alloc(64 * 1024 * 1024)), grpc.status.RESOURCE_EXHAUSTED);
    zipping.close();
    const deflate = new Client({ 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.deflate });
    await refused(deflate.put('z', value), grpc.status.UNIMPLEMENTED,
      'grpc: Decompressor is not installed for grpc-encoding "deflate"');
    deflate.close();
  },

  async 'pings faster than allowed end the connection'() {
    const hasty = new Client({ 'grpc.keepalive_time_ms': 100 });
    const { answers } = await hasty.watch('quiet');
    await refused(answers.next(), grpc.status.RESOURCE_EXHAUSTED); // ENHANCE_YOUR_CALM, as grpc-js has it.
    await hasty.works();
    hasty.close();
  },

  async 'a thousand streams share a connection'(client) {
    const names = [...Array(1000).keys()].map((n) => `m${n}`);
    const watches = await Promise.all(names.map((name) => client.watch(name)));
    const gets = await Promise.all(names.map(() => client.get('nothing')));
    assert.ok(gets.every((got) => got.length === 0));
    await Promise.all(names.map((name) => client.put(name, name)));
    const told = await Promise.all(watches.map(({ answers }) => answers.next()));
    assert.deepEqual(told.map(({ value }) => String(value.events[0].kv.value)), names);
    for (const { call } of watches) {
      call.on('error', () => {});
      call.cancel();
    }
  },
};

const restart = {
  async 'a server that ends says goodbye and is found again'(client) {
    await client.put('kept', '1');
    const { answers } = await client.watch('quiet');
    console.log('restart');
    await refused(answers.next(), grpc.status.UNAVAILABLE);
    const ready = new grpc.Metadata({ waitForReady: true });
    assert.equal(String(await client.get('kept', {}, ready)), '1');
  },
};

function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no end in time')), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const chosen = Object.entries(process.argv.includes('restart') ? restart : tests);
const client = new Client();
let failed = 0;
for (const [name, test] of chosen) {
  try {
    await within((async () => {
      await client.call(client.kv, 'DeleteRange', { key: key(''), range_end: AFTER });
      await test(client);
    })());
    console.log(`ok     ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED ${name}: ${error.message}`);
  }
}
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
