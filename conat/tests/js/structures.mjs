// Structures of the predecessor's clients against the storage protocol: what several of them see of each other, while
// connections end and come back.
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { decode } from "@msgpack/msgpack";
import { Client } from "./client.mjs";
import { assert, random, run } from "./lib.mjs";
import { AKV, AStream, CoreStream, DKO, DKV, DStream, Inventory, PubSub, SyncTable } from "./stores.mjs";

const opened = [];
const client = () => {
  const client = new Client();
  opened.push(client);
  return client;
};
const somebody = () => ({ account: randomUUID() });
/// The same store for several clients.
const open = (Store, count, options) => {
  const named = { owner: somebody(), name: random(), ...options };
  return Promise.all(Array.from({ length: count }, () => Store.open(client(), named)));
};
/// Cuts the connection under a client; socket.io-client comes back by itself.
const cut = async (client) => {
  const back = once(client, "synced");
  client.socket.io.engine.close();
  await back;
};

const parts = {
  async "a log shows one's own at once and everybody's in one order"() {
    const [one, other] = await open(DStream, 2);
    one.push("a", "b");
    assert.deepEqual(one.getAll(), ["a", "b"]);
    assert.equal(one.seq(0), undefined);
    assert.equal(one.hasUnsavedChanges(), true);
    other.push("c");
    await Promise.all([one.save(), other.save()]);
    assert.equal(one.hasUnsavedChanges(), false);
    for (const log of [one, other]) await log.until(({ core }) => core.length === 3);
    assert.deepEqual(one.getAll(), other.getAll());
    assert.ok(one.getAll().indexOf("a") < one.getAll().indexOf("b"));
    assert.deepEqual([0, 1, 2].map((at) => one.seq(at)), [1, 2, 3]);
    assert.ok(one.time(2) >= one.time(0) && one.time(0) > 1.7e12);
    assert.throws(() => one.publish(undefined), /must not be 'undefined'/);
  },

  async "a log becomes stable, and has headers when they are told"() {
    const [log] = await open(DStream, 1);
    const stable = once(log, "stable");
    log.publish({ x: 1 }, { headers: { h: [1] } });
    assert.equal(log.headers(0), undefined);
    await stable;
    assert.deepEqual(log.headers(0), { h: [1] });
  },

  async "what a log may not have is taken back and said"() {
    const [log, other] = await open(DStream, 2, { config: { max_msg_size: 20 } });
    const rejected = once(log, "reject");
    log.push("short", "x".repeat(50), "last");
    const [{ err, mesg }] = await rejected;
    assert.match(err, /^Error: /);
    assert.equal(mesg, "x".repeat(50));
    for (const one of [log, other]) {
      await one.until(({ core }) => core.length === 2);
      assert.deepEqual(one.getAll(), ["short", "last"]);
    }
  },

  // The service remembers the ids, so that what is written again because its answer was lost is there once.
  async "what is written while the connection is gone is there once, in order"() {
    const [log, other] = await open(DStream, 2);
    const writer = opened.at(-2);
    const count = 60;
    for (let i = 0; i < count; i += 1) {
      log.publish(i);
      if (i % 20 === 10) await cut(writer);
    }
    await log.save();
    for (const one of [log, other]) {
      await one.until(({ core }) => core.length >= count);
      assert.deepEqual(one.getAll(), Array.from({ length: count }, (_, i) => i));
    }
  },

  async "a log begins at a place, and reads on before it"() {
    const options = { owner: somebody(), name: random() };
    const all = await CoreStream.open(client(), options);
    await all.publishMany(Array.from({ length: 1_200 }, (_, value) => ({ value })));
    await all.until(({ length }) => length === 1_200);
    const late = await CoreStream.open(client(), { ...options, startSeq: 1_191 });
    assert.deepEqual(late.messages, all.messages.slice(-10));
    await all.publish("new");
    await late.until(({ length }) => length === 11);
    await late.load({ startSeq: 1_181 });
    await all.until(({ length }) => length === 1_201);
    assert.deepEqual(late.messages, all.messages.slice(-21));
    assert.deepEqual(await all.delete({ last_index: 1_199 }), { seqs: Array.from({ length: 1_200 }, (_, i) => i + 1) });
    for (const one of [all, late]) {
      await one.until(({ length }) => length === 1);
      assert.deepEqual(one.messages, ["new"]);
    }
  },

  async "a key-value store shows one's own at once and everybody's behind"() {
    const [one, other] = await open(DKV, 2);
    one.set("a", { x: 1 });
    one.setMany({ b: null, "": "an empty key", c: [new Date(5)] });
    assert.deepEqual(one.get("a"), { x: 1 });
    assert.equal(one.has("b"), true, "null is a value");
    await one.save();
    await other.until(({ length }) => length === 4);
    assert.deepEqual(other.getAll(), { a: { x: 1 }, b: null, "": "an empty key", c: [new Date(5)] });
    assert.ok(other.seq("a") >= 1 && other.time("a") > 1.7e12);
    other.set("a", undefined);
    assert.equal(other.has("a"), false);
    const gone = once(one, "change");
    await other.save();
    assert.deepEqual((await gone)[0], { key: "a", value: undefined, prev: { x: 1 } });
    assert.deepEqual(one.keys().sort(), ["", "b", "c"]);
    // The removal is a row of its own, which ends after a day.
    const [row] = (await one.core.stream.getAll()).filter(({ key }) => key === "a");
    assert.deepEqual([decode(row.raw), row.headers], [null, { "CN-Tombstone": true }]);
    one.clear();
    await one.save();
    await other.until(({ length }) => length === 0);
  },

  async "headers of a key travel with it"() {
    const [one, other] = await open(DKV, 2);
    one.set("k", 1, { headers: { "my": { h: 1 } } });
    await other.until((store) => store.has("k"));
    assert.deepEqual(other.headers("k"), { my: { h: 1 } });
  },

  async "what several write to a key at once is merged"() {
    const merge = ({ local, remote }) => ({ ...remote, ...local });
    const stores = await open(DKV, 3, { merge });
    stores[0].set("k", { base: 1 });
    for (const store of stores) await store.until((store) => store.has("k"));
    stores.forEach((store, at) => store.set("k", { ...store.get("k"), [`from ${at}`]: at }));
    await Promise.all(stores.map((store) => store.save()));
    const all = { base: 1, "from 0": 0, "from 1": 1, "from 2": 2 };
    for (const store of stores) {
      await store.until((store) => Object.keys(store.get("k")).length === 4);
      assert.deepEqual(store.get("k"), all);
    }
  },

  async "without a merge the last one has it, and each write is told"() {
    const [one, other] = await open(DKV, 2);
    const told = [];
    other.on("change", ({ value }) => told.push(value));
    for (let i = 0; i < 20; i += 1) {
      one.set("k", i);
      await one.save();
    }
    await other.until(() => told.at(-1) === 19);
    assert.deepEqual(told, Array.from({ length: 20 }, (_, i) => i));
  },

  async "a value that a store may not have is taken back and said"() {
    const [store] = await open(DKV, 1, { config: { max_msg_size: 20 } });
    const rejected = once(store, "reject");
    store.set("k", "x".repeat(100));
    assert.deepEqual((await rejected)[0], { key: "k", value: "x".repeat(100) });
    assert.equal(store.has("k"), false);
  },

  async "fields of an object are written by themselves"() {
    const [one, other] = await open(DKO, 2);
    one.set("o", { a: 1, b: 1 });
    await one.save();
    await other.until((store) => store.get("o")?.b === 1);
    const told = [];
    one.on("change", (change) => told.push(change));
    one.set("o", { a: 2, b: 1 });
    other.set("o", { b: 2 });
    await Promise.all([one.save(), other.save()]);
    for (const store of [one, other]) {
      await store.until((store) => store.get("o").a === 2 && store.get("o").b === 2);
      assert.deepEqual(store.getAll(), { o: { a: 2, b: 2 } });
    }
    assert.deepEqual(told.map(({ key, field, value }) => [key, field, value]).sort(), [["o", "a", 2], ["o", "b", 2]], "only what is different");
    assert.throws(() => one.set("o", 7), /values must be objects/);
    one.set("o", null);
    await one.save();
    await other.until((store) => store.get("o") === undefined);
    assert.deepEqual(other.getAll(), {});
  },

  async "files that are open, for a day"() {
    const [one, other] = await open(DKO, 2, { name: "open-files", config: { max_age: 86_400_000 } });
    assert.equal(one.dkv.core.configuration.max_age, 86_400_000);
    one.set("notes.md", { time: 5, backend: { id: "b1", time: 6 } });
    await other.until((store) => store.get("notes.md")?.backend);
    other.set("notes.md", { deleted: { deleted: true, time: 7 } });
    await one.until((store) => store.get("notes.md").deleted);
    assert.deepEqual(one.get("notes.md"), { time: 5, backend: { id: "b1", time: 6 }, deleted: { deleted: true, time: 7 } });
  },

  async "values one at a time, in the same store"() {
    const options = { owner: somebody(), name: random() };
    const store = await DKV.open(client(), options);
    const values = new AKV(client(), options);
    assert.equal(await values.get("k"), undefined);
    const { seq } = await values.set("k", { v: 1 }, { headers: { h: 1 } });
    await store.until((store) => store.has("k"));
    assert.deepEqual(store.get("k"), { v: 1 });
    const { time, ...headers } = await values.headers("k");
    assert.deepEqual(headers, { h: 1, seq, key: "k" });
    assert.ok(time > 1.7e12);
    await assert.rejects(values.set("k", 2, { previousSeq: seq + 7 }), { code: "wrong-last-sequence" });
    assert.deepEqual(await values.set("k", 2, { msgID: "m" }), await values.set("k", 3, { msgID: "m" }));
    assert.equal(await values.get("k"), 2);
    await values.delete("k");
    await store.until((store) => !store.has("k"));
    assert.equal(await values.get("k"), undefined);
    assert.deepEqual(await values.keys(), ["k"]);
  },

  async "a log without a replica, each of whose feeds is its own"() {
    const options = { owner: somebody(), name: random() };
    const log = new AStream(client(), options);
    await log.push("a", "b");
    const [one, other] = [await log.changefeed(), await log.changefeed()];
    assert.deepEqual(await log.push("c", "d").then((results) => results.map(({ seq }) => seq)), [3, 4]);
    const [third] = [await one.next(), await one.next()].map(({ value }) => [value.op, value.seq, value.mesg]);
    assert.deepEqual(third, ["set", 3, "c"]);
    await log.delete({ seq: 1 });
    assert.deepEqual((await one.next()).value, { op: "delete", seqs: [1] });
    const late = await log.changefeed();
    await log.publish("e");
    assert.equal((await late.next()).value.mesg, "e");
    const all = [];
    for await (const { op, mesg } of other) {
      all.push(mesg ?? op);
      if (mesg === "e") break;
    }
    assert.deepEqual(all, ["c", "d", "delete", "e"]);
    const rows = [];
    for await (const { seq, mesg } of log.getAll({ start_seq: 2, end_seq: 4 })) rows.push([seq, mesg]);
    assert.deepEqual(rows, [[2, "b"], [3, "c"], [4, "d"]]);
    assert.equal(await log.get(4), "d");
    const replica = await DStream.open(client(), options);
    assert.deepEqual(replica.getAll(), ["b", "c", "d", "e"]);
    await one.return();
    await late.return();
  },

  async "an inventory of what there is"() {
    const owner = somebody();
    const inventory = await Inventory.open(client(), owner);
    const log = await DStream.open(client(), { owner, name: "log", config: { max_msgs: 5 } });
    for (let i = 0; i < 8; i += 1) log.publish("x".repeat(9));
    await log.save();
    await inventory.update({ name: "log", type: "stream", desc: { of: "tests" } }, log.core);
    const other = await Inventory.open(client(), owner);
    const { last, created, ...found } = other.get({ name: "log", type: "stream" });
    assert.deepEqual(found, { desc: { of: "tests" }, bytes: 50, count: 5, limits: { max_msgs: 5 }, seq: 8 });
    assert.ok(last >= created);
  },

  async "a word to everybody who listens, also to oneself"() {
    const project = randomUUID();
    const [one, other] = await Promise.all([0, 1].map(() => PubSub.open(client(), { project, name: "cursor", path: "a/b.md" })));
    assert.equal(one.subject, `project.${project}.-.pubsub-cursor.YS9iLm1k`);
    const told = [once(one, "change"), once(other, "change")];
    one.set({ at: 3 });
    for (const [data] of await Promise.all(told)) assert.deepEqual(data, { at: 3 });
  },

  async "rows of a table, as wholes and by their fields"() {
    for (const form of ["atomic", "fields"]) {
      const options = { owner: somebody(), table: "cursors", id: JSON.stringify({ doc: random() }), keys: ["doc", "user"], form };
      const [one, other] = await Promise.all([0, 1].map(() => SyncTable.open(client(), options)));
      const told = once(other, "change");
      one.set({ doc: "d", user: 1, at: [1, 2] });
      const key = JSON.stringify(["d", 1]);
      assert.deepEqual((await told)[0], [key]);
      await other.wait((table) => table.get(key)?.at);
      assert.deepEqual(other.get(key), { doc: "d", user: 1, at: [1, 2] });
      other.set({ doc: "d", user: 1, at: [3] });
      await one.wait((table) => table.get(key).at.length === 1);
    }
  },

  async "patches of a document, which never change"() {
    const project = randomUUID();
    const id = createHash("sha1").update(`${project}notes.md`).digest("hex");
    const options = { owner: { project }, table: "patches", id, keys: ["time"], form: "log" };
    const [one, other] = await Promise.all([0, 1].map(() => SyncTable.open(client(), options)));
    for (let time = 1; time <= 30; time += 1) (time % 2 ? one : other).set({ time, patch: `p${time}` });
    assert.throws(() => one.set({ time: 1, patch: "another" }), /object 1 cannot be changed/);
    for (const table of [one, other]) await table.wait(({ store }) => store.core.length === 30);
    assert.deepEqual(one.store.getAll(), other.store.getAll());
    const third = await SyncTable.open(client(), options);
    assert.deepEqual(third.store.getAll(), one.store.getAll());
  },

  async "stores of a connection that ended are as those of others when it is back"() {
    const [one, other] = await open(DKV, 2);
    one.set("before", 1);
    // What is not known to be saved would be written again later.
    await one.save();
    await other.until((store) => store.has("before"));
    const [first] = opened.slice(-2);
    const gone = once(first, "disconnected");
    first.socket.io.engine.close();
    await gone;
    other.set("meanwhile", 2);
    other.set("before", 3);
    await other.save();
    one.set("after", 4);
    await one.until((store) => store.get("meanwhile") === 2 && store.get("before") === 3);
    await one.save();
    await other.until((store) => store.has("after"));
    assert.deepEqual(one.getAll(), other.getAll());
  },
};

/// Ends the clients of each part.
const ending = (part) => async () => {
  try {
    await part();
  } finally {
    await Promise.all(opened.splice(0).map((client) => client.close()));
  }
};
await run(Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, ending(part)])));
