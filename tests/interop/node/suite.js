// Drives a server with the npm package etcd3. ETCD_ENDPOINT says where the server is.

import assert from 'node:assert/strict';
import { Etcd3, EtcdLockFailedError } from 'etcd3';

const PREFIX = 'interop/node/';
const DEADLINE_MS = 20_000;

const tests = {
  async 'a put is read back with its versions'(client) {
    await client.put('a').value('1');
    await client.put('a').value('2');
    assert.equal(await client.get('a').string(), '2');
    const { kvs } = await client.get('a').exec();
    assert.equal(kvs[0].version, '2');
    assert.equal(await client.get('nothing'), null);
  },

  async 'a range is sorted and limited'(client) {
    for (let i = 0; i < 5; i++) await client.put(`k${i}`).value(9 - i);
    const found = await client.getAll().prefix('k').sort('Value', 'Ascend').limit(2).numbers();
    assert.deepEqual(Object.values(found), [5, 6]);
    assert.equal(await client.getAll().prefix('k').count(), 5);
  },

  async 'a transaction compares and branches'(client) {
    const create = () =>
      client.if('t', 'Create', '==', 0).then(client.put('t').value('new')).else(client.get('t')).commit();
    assert.equal((await create()).succeeded, true);
    const second = await create();
    assert.equal(second.succeeded, false);
    assert.equal(second.responses[0].response_range.kvs[0].value.toString(), 'new');
  },

  async 'a watch tells changes in order'(client) {
    const watcher = await client.watch().prefix('w').create();
    const seen = [];
    const all = new Promise((resolve) => {
      watcher.on('put', (kv) => seen.push(kv.value.toString()));
      watcher.on('delete', resolve);
    });
    for (let i = 0; i < 10; i++) await client.put('w').value(i);
    await client.delete().key('w');
    await all;
    await watcher.cancel();
    assert.deepEqual(seen, [...Array(10).keys()].map(String));
  },

  async 'a lease is kept alive and revoked'(client) {
    const lease = client.lease(10);
    await lease.put('l').value('1');
    await lease.keepaliveOnce();
    assert.equal(await client.get('l').string(), '1');
    await lease.revoke();
    assert.equal(await client.get('l'), null);
  },

  async 'a lock excludes others'(client) {
    const lock = client.lock('lock').ttl(10);
    await lock.acquire();
    await assert.rejects(client.lock('lock').acquire(), EtcdLockFailedError);
    await lock.release();
    await client.lock('lock').do(async () => {});
  },

  async 'software transactional memory sums up'(client) {
    await client.put('sum').value(0);
    const add = () =>
      client.stm({ retries: 50 }).transact(async (tx) => {
        const sum = await tx.get('sum').number();
        await tx.put('sum').value(sum + 1);
      });
    await Promise.all([...Array(5)].map(async () => { for (let i = 0; i < 4; i++) await add(); }));
    assert.equal(await client.get('sum').number(), 20);
  },

  async 'an election has a leader'(client) {
    const election = client.election('e', 10);
    const campaign = election.campaign('me');
    await new Promise((resolve, reject) => {
      campaign.on('elected', resolve);
      campaign.on('error', reject);
    });
    assert.equal(await election.leader(), 'me');
    await campaign.resign();
  },

  async 'the member tells its status'(_, client) {
    const status = await client.maintenance.status();
    assert.notEqual(status.leader, '0');
    assert.ok((await client.cluster.memberList({})).members.length > 0);
  },
};

function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no end in time')), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const client = new Etcd3({ hosts: process.env.ETCD_ENDPOINT });
const inside = client.namespace(PREFIX);
let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await within((async () => { await inside.delete().all(); await test(inside, client); })());
    console.log(`ok     ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED ${name}: ${error.message}`);
  }
}
console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
