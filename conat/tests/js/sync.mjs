// What the predecessor's clients build on streams: replicas of key-value stores and of logs that several clients share,
// with writes that are repeated until they are echoed. Written from docs/conat.md.
import { randomUUID } from "node:crypto";
import { decode } from "@msgpack/msgpack";
import { Client } from "./client.mjs";
import { assert, random, run } from "./lib.mjs";
import { PersistStream } from "./persist.mjs";

const TOMBSTONE = "CN-Tombstone";
const TOMBSTONE_TTL = 86_400_000;

/// A replica of a stream that follows its changes: what is known of each key, and all rows.
class Replica {
  rows = [];
  kv = new Map();
  events = [];

  static async open(client, { account, name }) {
    const replica = new Replica();
    replica.stream = new PersistStream(client, {
      subject: `persist.account-${account}`,
      storage: { path: `accounts/${account}/${name}` },
      changefeed: true,
    });
    replica.stream.fromStart = true;
    await replica.stream.until(({ following }) => following);
    replica.applied = 0;
    return replica;
  }

  /// Applies what has been told.
  apply() {
    const { changes } = this.stream;
    for (; this.applied < changes.length; this.applied += 1) {
      const change = changes[this.applied];
      if (change.op === "delete") {
        const gone = new Set(change.seqs);
        this.rows = this.rows.filter(({ seq }) => !gone.has(seq));
        for (const [key, { seq }] of this.kv) if (gone.has(seq)) this.kv.delete(key);
        continue;
      }
      const row = { ...change, value: decode(change.raw) };
      this.rows = this.rows.filter(({ key }) => key === undefined || key !== row.key);
      this.rows.push(row);
      if (row.key === undefined) continue;
      if (row.headers?.[TOMBSTONE]) this.kv.delete(row.key);
      else this.kv.set(row.key, row);
      this.events.push([row.key, row.headers?.[TOMBSTONE] ? undefined : row.value]);
    }
  }

  async until(fits) {
    await this.stream.until(() => {
      this.apply();
      return fits(this);
    });
  }

  set(key, value, more = {}) {
    return this.stream.set({ key, value, ...more });
  }

  delete(key) {
    return this.stream.set({ key, value: null, headers: { [TOMBSTONE]: true }, ttl: TOMBSTONE_TTL });
  }

  get(key) {
    return this.kv.get(key)?.value;
  }
}

const opened = [];
async function replicas(count, name = random()) {
  const account = randomUUID();
  const all = [];
  for (let i = 0; i < count; i += 1) {
    const client = new Client({ inboxPrefix: `_INBOX.account-${account}` });
    const replica = await Replica.open(client, { account, name });
    opened.push(client);
    all.push(replica);
  }
  return all;
}
const close = async () => {
  for (const client of opened.splice(0)) await client.close();
};

await run({
  async "a key-value store that two clients share"() {
    const [one, other] = await replicas(2);
    await one.stream.config({ allow_msg_ttl: true });
    await one.set("a", { x: 1 });
    await one.set("", "an empty key");
    await one.set("gone", 1);
    await one.delete("gone");
    await other.until(({ events }) => events.length >= 4);
    assert.deepEqual(Object.fromEntries([...other.kv].map(([key, { value }]) => [key, value])), { a: { x: 1 }, "": "an empty key" });
    assert.deepEqual(other.events, [["a", { x: 1 }], ["", "an empty key"], ["gone", 1], ["gone", undefined]], "each write is told once, in order");
    assert.deepEqual((await one.stream.call("keys")).data.sort(), ["", "a", "gone"], "tombstones have keys, too");
    await close();
  },

  async "every value of a key that is written again and again is told"() {
    const [writer, reader] = await replicas(2);
    const count = 200;
    await Promise.all(Array.from({ length: count }, (_, i) => writer.set("k", i)));
    await reader.until(({ events }) => events.length >= count);
    assert.deepEqual(reader.events.map(([, value]) => value), Array.from({ length: count }, (_, i) => i));
    assert.equal(reader.rows.length, 1);
    await close();
  },

  async "two clients merge what both wrote"() {
    const [one, other] = await replicas(2);
    const { seq } = await one.set("k", { base: true });
    await other.until((replica) => replica.get("k"));
    const write = (replica, value) => replica.set("k", value, { previousSeq: seq });
    const outcomes = await Promise.allSettled([write(one, { one: 1 }), write(other, { other: 1 })]);
    const refused = outcomes.filter(({ status }) => status === "rejected");
    assert.equal(refused.length, 1);
    assert.equal(refused[0].reason.code, "wrong-last-sequence");
    const loser = outcomes[0].status === "rejected" ? one : other;
    await loser.until(({ kv }) => kv.get("k").seq > seq);
    const { seq: now, value } = loser.kv.get("k");
    await loser.set("k", { ...value, merged: true }, { previousSeq: now });
    for (const replica of [one, other]) await replica.until((replica) => replica.get("k")?.merged);
    assert.deepEqual(one.get("k"), other.get("k"));
    await close();
  },

  async "a log that two clients append to"() {
    const [one, other] = await replicas(2);
    const item = (value) => ({ value, msgID: `id-${value}` });
    const values = Array.from({ length: 50 }, (_, i) => i);
    const first = await one.stream.setMany(values.map(item));
    // What is not known to have arrived is sent again, with what is new.
    const again = await one.stream.setMany([...values, 50].map(item));
    assert.deepEqual(again.slice(0, 50), first);
    await other.stream.set({ value: "more" });
    for (const replica of [one, other]) {
      await replica.until(({ rows }) => rows.length >= 52);
      assert.deepEqual(replica.rows.map(({ value }) => value), [...values, 50, "more"]);
    }
    const own = one.rows.filter(({ msgID }) => msgID?.startsWith("id-"));
    assert.equal(own.length, 51, "a writer knows its own by their ids");
    await close();
  },

  async "what limits remove is told"() {
    const [one, other] = await replicas(2);
    await one.stream.config({ max_msgs: 3 });
    for (let i = 0; i < 10; i += 1) await one.stream.set({ value: i });
    const values = ({ rows }) => rows.map(({ value }) => value).join();
    await other.until((replica) => values(replica) === "7,8,9");
    const rows = await one.stream.getAll();
    assert.deepEqual(rows.map(({ raw }) => decode(raw)), [7, 8, 9]);
    await close();
  },

  async "an inventory of stores"() {
    const [inventory] = await replicas(1, "CoCalc-Inventory");
    const [store] = await replicas(1);
    for (let i = 0; i < 5; i += 1) await store.set(`k${i}`, "x".repeat(10));
    const { bytes, count, limits, seq } = await store.stream.inventory();
    assert.deepEqual({ bytes, count, limits, seq }, { bytes: 5 * (11 + 2), count: 5, limits: {}, seq: 5 });
    const key = JSON.stringify({ name: "store", type: "kv" });
    await inventory.set(key, { desc: "d", last: Date.now(), created: 1, bytes, count, limits, seq });
    await inventory.until((replica) => replica.get(key));
    assert.equal(inventory.get(key).bytes, 65);
    await close();
  },

  async "values one at a time, without a replica"() {
    const [{ stream }] = await replicas(1);
    assert.equal(await stream.get({ key: "none" }), undefined);
    const { seq } = await stream.set({ key: "k", value: { d: new Date(5) }, headers: { h: [1] } });
    const found = await stream.get({ key: "k" });
    assert.deepEqual(found.data, { d: new Date(5) });
    assert.deepEqual([found.headers.h, found.headers.seq, found.headers.key], [[1], seq, "k"]);
    assert.deepEqual((await stream.get({ seq })).data, found.data);
    assert.deepEqual(await stream.delete({ seq }), { seqs: [seq] });
    assert.equal(await stream.get({ key: "k" }), undefined);
    await close();
  },
});
