// The storage protocol, spoken by hand over the socket protocol as the predecessor's client does.
import { randomUUID } from "node:crypto";
import { ask, assert, connect, decode, encode, message, next, outside, publish, random, request, run, subscribe } from "./lib.mjs";

const project = randomUUID();
const base = `persist.project-${project}`;

/// A socket for one stream.
async function open(path, { changefeed = false, storage = {}, subject = base } = {}) {
  const client = await connect();
  const which = await request(client, `${subject}.id`, encode(null));
  const serverId = decode(which.raw);
  const id = random();
  const server = `${subject}.server.${serverId}.${id}`;
  const own = `${subject}.client.${id}`;
  const stream = { client, server, own, sent: 0, data: [], emitted: 0, waiting: [], closed: false };
  await subscribe(client, own);
  client.socket.on(own, ({ data: [, , , encoding, raw, headers = {}] }) => {
    const answer = (payload) => headers["CN-Reply"] && client.socket.emit("publish", [headers["CN-Reply"], random(), 0, 1, 0, encode(payload)]);
    if (headers["CN-SocketCmd"] === "ping") answer(null);
    else if (headers["CN-SocketCmd"] === "close") stream.closed = true;
    else if (headers["CN-SocketCmd"] === "socket") answer(decode(raw).socket);
    else if (headers["CN-SocketSeq"] === stream.emitted + 1) {
      stream.emitted += 1;
      stream.data.push({ headers, value: decode(raw) });
      const ack = encode({ socket: { emitted: stream.emitted } });
      const command = { "CN-SocketCmd": "socket", "CN-Reply": `_INBOX.${random()}.x` };
      client.socket.emit("publish", [server, random(), 0, 1, 0, ack, command]);
    }
    stream.waiting.splice(0).forEach((wake) => wake());
  });
  const connected = await request(client, server, encode(null), { headers: { "CN-SocketCmd": "connect", id } });
  assert.equal(decode(connected.raw), "connected");
  stream.sent += 1;
  const hello = encode({ storage: { path, ...storage }, changefeed });
  await publish(client, server, hello, { headers: { "CN-SocketSeq": 1 } });
  stream.call = async (cmd, parameters = {}, raw = encode(null), encoding = 0) => {
    const answer = await request(client, server, raw, { headers: { cmd, ...parameters }, encoding });
    return { headers: answer.headers ?? {}, encoding: answer.encoding, raw: answer.raw, value: answer.encoding === 0 ? decode(answer.raw) : undefined };
  };
  stream.told = async (count) => {
    while (stream.data.length < count) await new Promise((resolve) => stream.waiting.push(resolve));
    return stream.data;
  };
  stream.elements = async (count) => {
    for (let batches = 1; ; batches += 1) {
      const elements = (await stream.told(batches)).flatMap(({ value }) => value);
      if (elements.length >= count) return elements;
    }
  };
  /// All rows, as getAll sends them in several answers.
  stream.getAll = async (parameters = {}) => {
    const inbox = `_INBOX.${random()}`;
    await subscribe(client, `${inbox}.*`);
    await publish(client, server, encode(null), { headers: { cmd: "getAll", ...parameters, "CN-Reply": `${inbox}.x` } });
    const rows = [];
    for (let seq = 0; ; seq += 1) {
      const batch = await message(client, `${inbox}.*`);
      if (batch.headers.error) throw new Error(batch.headers.error);
      assert.equal(batch.headers.seq, seq);
      const value = decode(batch.raw);
      if (value === null) return rows;
      rows.push(...value);
    }
  };
  return stream;
}

const path = (name) => `projects/${project}/${name}`;

await run({
  async "set, get, changefeed and getAll"() {
    const stream = await open(path("foo"), { changefeed: true });
    const value = encode({ a: 1 });
    const set = await stream.call("set", { key: "k", msgID: "m1", headers: { h: 1 } }, value);
    assert.equal(set.value.seq, 1);
    assert.ok(Math.abs(set.value.time - Date.now()) < 3_600_000);
    assert.deepEqual((await stream.call("set", { key: "k", msgID: "m1" }, value)).value, set.value, "the same message is written once");
    const got = await stream.call("get", { key: "k" });
    assert.deepEqual(got.headers, { h: 1, seq: 1, time: set.value.time, key: "k" });
    assert.ok(got.raw.equals(Buffer.from(value)));
    const missing = await stream.call("get", { key: "x" });
    assert.equal(missing.value, null);
    assert.deepEqual(missing.headers, {});
    const text = await stream.call("set", {}, Buffer.from('"text"'), 1);
    assert.equal(text.value.seq, 2);
    const rows = await stream.getAll();
    assert.equal(rows.length, 2);
    assert.deepEqual(Object.keys(rows[0]).sort(), ["encoding", "headers", "key", "raw", "seq", "time"]);
    assert.deepEqual(rows[0].headers, { h: 1 });
    assert.equal(rows[1].encoding, 1);
    assert.equal("key" in rows[1], false);
    assert.equal("headers" in rows[1], false);
    const elements = await stream.elements(2);
    assert.equal(elements[0].msgID, "m1");
    assert.equal("msgID" in elements[1], false);
    assert.equal("op" in elements[0], false);
    assert.equal(stream.data[0].headers.seq, 0);
    assert.deepEqual((await stream.call("keys")).value, ["k"]);
    assert.equal((await stream.call("changefeed")).value, "created");
    const inventory = (await stream.call("inventory")).value;
    assert.deepEqual(inventory, { bytes: value.length + '{"h":1}'.length + 1 + 6, count: 2, limits: {}, seq: 2 });
  },

  async "a keyed write replaces, and expectations hold"() {
    const stream = await open(path("keyed"), { changefeed: true });
    await stream.call("set", { key: "k" }, encode(1));
    const wrong = await stream.call("set", { key: "k", previousSeq: 7 }, encode(2));
    assert.equal(wrong.headers.code, "wrong-last-sequence");
    assert.match(wrong.headers.error, /^Error: /);
    assert.equal((await stream.call("set", { key: "k", previousSeq: 1 }, encode(2))).value.seq, 2);
    assert.equal((await stream.getAll()).length, 1);
    assert.equal((await stream.call("set", { key: "new", previousSeq: 0 }, encode(2))).value.seq, 3);
    const elements = await stream.elements(3);
    assert.deepEqual(elements.map(({ op, seq }) => [op, seq]), [[undefined, 1], [undefined, 2], [undefined, 3]]);
  },

  async setMany() {
    const stream = await open(path("many"));
    await stream.call("config", { config: { max_msg_size: 10 } });
    const item = (raw, more = {}) => ({ messageData: { encoding: 0, raw }, ...more });
    const many = [item(encode(1)), item(Buffer.alloc(100)), item(encode(3), { key: "k", msgID: "m", ttl: 1000 })];
    const { value } = await stream.call("setMany", {}, encode(many));
    assert.equal(value[0].seq, 1);
    assert.equal(value[1].code, "reject");
    assert.equal(value[2].seq, 2);
  },

  async "config and limits"() {
    const stream = await open(path("config"));
    const defaults = { max_msgs: -1, max_age: 0, max_bytes: -1, max_msg_size: -1, max_bytes_per_second: -1, max_msgs_per_second: -1, discard_policy: "old", allow_msg_ttl: false, desc: null };
    assert.deepEqual((await stream.call("config")).value, defaults);
    const config = { max_msgs: 2, discard_policy: "new", desc: { a: 1 } };
    assert.deepEqual((await stream.call("config", { config })).value, { ...defaults, ...config });
    for (let i = 0; i < 2; i += 1) await stream.call("set", {}, encode(i));
    assert.equal((await stream.call("set", {}, encode(3))).headers.code, "reject");
    assert.deepEqual((await stream.call("inventory")).value.limits, config);
  },

  async "delete, and what the feed says of it"() {
    const stream = await open(path("delete"), { changefeed: true });
    for (let i = 0; i < 6; i += 1) await stream.call("set", {}, encode(i));
    assert.deepEqual((await stream.call("delete", { seq: 2 })).value, { seqs: [2] });
    // What was gone before may be among them.
    const { seqs } = (await stream.call("delete", { last_seq: 3 })).value;
    assert.deepEqual(seqs.filter((seq) => seq !== 2), [1, 3]);
    assert.deepEqual((await stream.call("delete", { seqs: [4, 99] })).value, { seqs: [4, 99] });
    assert.deepEqual((await stream.call("delete", { all: true })).value, { seqs: [5, 6] });
    assert.deepEqual((await stream.call("inventory")).value, { bytes: 0, count: 0, limits: {}, seq: 0 });
    assert.equal((await stream.call("set", {}, encode(7))).value.seq, 7);
    // Whoever follows the feed ends with what there is; what has come and gone in between may never be told.
    const held = new Set();
    for (let batch = 1; !held.has(7); batch += 1) {
      for (const { op, seq, seqs } of (await stream.told(batch))[batch - 1].value) {
        if (op === "delete") seqs.forEach((gone) => held.delete(gone));
        else held.add(seq);
      }
    }
    assert.deepEqual([...held], [7]);
  },

  async "unknown commands"() {
    const stream = await open(path("unknown"));
    const answer = await stream.call("dance");
    assert.deepEqual(answer.headers, { error: "Error: unknown command dance", code: 404 });
    assert.equal((await stream.call("sqlite")).headers.error, "Error: sqlite command not currently supported");
  },

  async "a path of somebody else"() {
    for (const wrong of ["hub/x", "projects/other/x", "/x", `projects/${project}/a//b`]) {
      const stream = await open(wrong);
      const [{ headers, value }] = await stream.told(1);
      assert.equal(value, null);
      assert.match(headers.error, /^Error: permission denied/);
      assert.equal(headers.code, wrong.includes("//") ? undefined : 403);
      assert.equal((await stream.call("keys")).headers.error, headers.error);
    }
  },

  async "20 MB come back in one piece, and many rows in order"() {
    const stream = await open(path("large"));
    for (let i = 0; i < 3_000; i += 100) {
      const items = Array.from({ length: 100 }, (_, j) => ({ messageData: { encoding: 0, raw: Buffer.alloc(2_000, i + j) } }));
      await stream.call("setMany", {}, encode(items));
    }
    const rows = await stream.getAll({ start_seq: 11, end_seq: 2_990 });
    assert.equal(rows.length, 2_980);
    rows.forEach(({ seq }, at) => assert.equal(seq, at + 11));
  },

  async "close is answered"() {
    const stream = await open(path("close"));
    const answer = await request(stream.client, stream.server, encode(null), { headers: { "CN-SocketCmd": "close" } });
    assert.equal(decode(answer.raw), "closed");
    // Whoever is not connected any more is told so.
    await publish(stream.client, stream.server, encode(1), { headers: { "CN-SocketSeq": 5 } });
    while (!stream.closed) await next(stream.client, ({ event }) => event === stream.own);
    // Also of one that is closed.
    const again = await request(stream.client, stream.server, encode(null), { headers: { "CN-SocketCmd": "close" } });
    assert.equal(decode(again.raw), "closed");
  },

  async "everything is there after a restart of the service"() {
    const stream = await open(path("restart"), { changefeed: true });
    for (let i = 0; i < 50; i += 1) await stream.call("set", { key: `k${i}` }, encode(i));
    await outside("restart");
    const again = await open(path("restart"), { changefeed: true });
    assert.equal((await again.call("set", { key: "after" }, encode(1))).value.seq, 51);
    const rows = await again.getAll();
    assert.deepEqual(rows.map(({ seq }) => seq), Array.from({ length: 51 }, (_, i) => i + 1));
  },
});
