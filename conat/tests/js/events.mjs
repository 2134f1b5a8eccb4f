// Every event of the protocol, against a broker that lets everybody do everything.
import { address, ask, assert, client_signed_in, connect, decode, encode, message, next, publish, random, request, run, subscribe, until } from "./lib.mjs";

await run({
  async info() {
    const client = await connect();
    const [info] = client.infos;
    assert.equal(info.max_payload, 8_000_000);
    assert.equal(typeof info.id, "string");
    assert.equal(info.user, null);
    assert.equal("clusterName" in info, false);
  },

  async "info is said again until it is acknowledged"() {
    const client = await connect({ silent: true });
    await client_signed_in(client);
  },

  async "subscribe, publish, deliver"() {
    const client = await connect();
    assert.deepEqual(await subscribe(client, "foo.*", "q1"), { status: "added" });
    assert.deepEqual(await subscribe(client, "foo.*", "q2"), { status: "already-added" });
    const raw = encode({ a: 1, d: new Date(0), buf: Buffer.from("hi") });
    assert.deepEqual(await publish(client, "foo.a", raw), { count: 1 });
    const heard = await message(client, "foo.*");
    assert.equal(heard.subject, "foo.a");
    assert.equal(heard.encoding, 0);
    assert.equal(heard.headers, undefined);
    assert.deepEqual(decode(heard.raw).d, new Date(0));
  },

  async "headers and encodings arrive as they were sent"() {
    const client = await connect();
    await subscribe(client, "h.>");
    const headers = { my: { h: 1 }, "ä": "ö\"\\\n", list: [1, null, true] };
    await publish(client, "h.x", Buffer.from('"x:1}'), { headers, encoding: 1 });
    const heard = await message(client, "h.>");
    assert.deepEqual(heard.headers, headers);
    assert.equal(heard.encoding, 1);
    assert.equal(heard.raw.toString(), '"x:1}');
  },

  async "a delivery comes before the count"() {
    const client = await connect();
    await subscribe(client, "order.x");
    let delivered = false;
    client.socket.on("order.x", () => (delivered = true));
    await publish(client, "order.x", Buffer.from("1"));
    assert.ok(delivered);
  },

  async "one copy for each pattern, and the count says so"() {
    const client = await connect();
    for (const pattern of ["o.*", "o.>", "o.x"]) await subscribe(client, pattern);
    assert.deepEqual(await publish(client, "o.x", Buffer.from("1")), { count: 3 });
    for (const pattern of ["o.*", "o.>", "o.x"]) await message(client, pattern);
  },

  async "a tap sees everything and is not counted"() {
    const client = await connect();
    await subscribe(client, ">");
    assert.deepEqual(await publish(client, "tapped.x", Buffer.from("1")), { count: 0 });
    assert.equal((await message(client, ">")).subject, "tapped.x");
    assert.equal(await ask(client, "wait-for-interest", { subject: "tapped.x", timeout: 0 }), false);
  },

  async "errors have their texts"() {
    const client = await connect();
    const invalid = { error: "Error: invalid subject" };
    for (const subject of ["a..b", "", ".a", "a.", "a b", ">.a"]) {
      assert.deepEqual(await subscribe(client, subject), invalid, subject);
    }
    assert.deepEqual(await ask(client, "subscribe", { subject: "a" }), {
      error: "Error: queue must be defined",
    });
    for (const subject of ["a.*", "a.>", "a..b", ""]) {
      assert.deepEqual(await publish(client, subject, Buffer.from("1")), invalid, subject);
    }
    assert.deepEqual(await ask(client, "wait-for-interest", { subject: "a.*", timeout: 0 }), invalid);
    const wrong = await ask(client, "publish", ["a", "b"]);
    assert.equal(wrong.code, 400);
  },

  async "literal wildcards inside segments are letters"() {
    const client = await connect();
    assert.deepEqual(await subscribe(client, "foo*"), { status: "added" });
    assert.deepEqual(await subscribe(client, "a>b"), { status: "added" });
    assert.deepEqual(await publish(client, "a>b", Buffer.from("1")), { count: 1 });
  },

  async "lists and batches"() {
    const client = await connect();
    assert.deepEqual(
      await ask(client, "subscribe", [
        { subject: "foo.*", queue: "q2" },
        { subject: "bar", queue: "1" },
        { subject: "foo.*", queue: "q3" },
        { subject: "a..b", queue: "q3" },
      ]),
      [{ status: "added" }, { status: "added" }, { status: "already-added" }, { error: "Error: invalid subject" }],
    );
    assert.deepEqual(await ask(client, "subscriptions", null), ["foo.*", "bar"]);
    assert.deepEqual(await ask(client, "unsubscribe", [{ subject: "bar" }, { subject: "unknown" }]), [null, null]);
    assert.equal(await ask(client, "unsubscribe", { subject: "unknown" }), null);
    assert.deepEqual(await ask(client, "subscriptions", null), ["foo.*"]);
    assert.deepEqual(await publish(client, "bar", Buffer.from("1")), { count: 0 });
    assert.deepEqual(await ask(client, "subscribe", []), []);
  },

  async "interest is waited for"() {
    const [client, other] = [await connect(), await connect()];
    assert.equal(await ask(client, "wait-for-interest", { subject: "nobody.z", timeout: 0 }), false);
    assert.deepEqual(await ask(client, "wait-for-interest", { subject: "nobody.z", timeout: 20 }), {
      error: "Error: timeout",
    });
    const waiting = ask(client, "wait-for-interest", { subject: "soon.z", timeout: 60_000 });
    // The broker has the question when it has answered the next one.
    await ask(client, "subscriptions", null);
    await subscribe(other, "soon.*");
    assert.equal(await waiting, true);
  },

  async "the cluster is this node"() {
    const client = await connect();
    assert.deepEqual(await ask(client, "cluster"), [address]);
  },

  async "queue groups share, and groups are counted"() {
    const clients = [await connect(), await connect(), await connect()];
    for (const client of clients.slice(0, 2)) await subscribe(client, "work.*", "0");
    await subscribe(clients[2], "work.*", "1");
    const count = 200;
    for (let i = 0; i < count; i += 1) {
      assert.deepEqual(await publish(clients[2], "work.x", Buffer.from("1")), { count: 2 });
    }
    // What came before the answer to a later question is there.
    for (const client of clients) await ask(client, "subscriptions", null);
    const got = clients.map((client) => client.heard.filter((said) => said.event === "work.*").length);
    assert.equal(got[0] + got[1], count);
    assert.equal(got[2], count);
    assert.ok(got[0] > 0 && got[1] > 0);
  },

  async "a request is answered"() {
    const [client, service] = [await connect(), await connect()];
    await subscribe(service, "svc.add", "0");
    const answering = (async () => {
      const asked = await message(service, "svc.add");
      const reply = asked.headers["CN-Reply"];
      assert.equal(asked.headers.more, 7);
      await publish(service, reply, encode(decode(asked.raw) + 1), { headers: { done: true } });
    })();
    const answer = await request(client, "svc.add", encode(41), { headers: { more: 7 } });
    await answering;
    assert.equal(decode(answer.raw), 42);
    assert.deepEqual(answer.headers, { done: true });
  },

  async "chunks of large messages stay together in a queue group"() {
    const clients = [await connect(), await connect(), await connect()];
    for (const client of clients.slice(0, 2)) await subscribe(client, "large.*", "0");
    const raw = Buffer.alloc(20_000_000, 7);
    const size = 7_900_000;
    for (let round = 0; round < 4; round += 1) {
      const id = random();
      const acks = [];
      for (let seq = 0, at = 0; at < raw.length; seq += 1, at += size) {
        const done = at + size >= raw.length ? 1 : 0;
        const chunk = ["large.x", id, seq, done, 0, raw.subarray(at, at + size)];
        if (done) chunk.push({ last: true });
        acks.push(ask(clients[2], "publish", chunk));
      }
      assert.equal(Math.max(...(await Promise.all(acks)).map((ack) => ack.count)), 1);
      for (const client of clients) await ask(client, "subscriptions", null);
      const members = clients.filter((client) => client.heard.some(({ event }) => event === "large.*"));
      assert.equal(members.length, 1, "one member gets all chunks");
      const heard = await message(members[0], "large.*");
      assert.ok(heard.raw.equals(raw));
      assert.deepEqual(heard.headers, { last: true });
    }
  },

  async "a chunk out of turn is refused"() {
    const client = await connect();
    const chunk = (seq, done) => ask(client, "publish", ["c.x", "idididid", seq, done, 0, Buffer.from("1")]);
    assert.equal((await chunk(1, 1)).code, 400);
    assert.deepEqual(await chunk(0, 0), { count: 0 });
    assert.equal((await chunk(2, 1)).code, 400);
  },

  async "an empty payload arrives"() {
    const client = await connect();
    await subscribe(client, "empty");
    await publish(client, "empty", Buffer.alloc(0));
    assert.equal((await message(client, "empty")).raw.length, 0);
  },

  async "events before the answer to who one is are kept"() {
    const client = await connect({ early: true });
    // socket.io-client sends these right after CONNECT, before the broker has judged.
    const acks = Promise.all([subscribe(client, "early.x"), publish(client, "early.x", Buffer.from("1"))]);
    assert.deepEqual(await acks, [{ status: "added" }, { count: 1 }]);
    await message(client, "early.x");
  },

  async "20,000 messages keep their order"() {
    const [client, other] = [await connect(), await connect()];
    await subscribe(other, "seq.x");
    const count = 20_000;
    for (let i = 0; i < count; i += 1) {
      client.socket.emit("publish", ["seq.x", "id", 0, 1, 0, Buffer.from(String(i))]);
    }
    for (let i = 0; i < count; i += 1) {
      const said = await next(other, ({ event }) => event === "seq.x");
      assert.equal(said.args[0].data[4].toString(), String(i));
    }
  },

  async "a small message does not overtake a large one"() {
    const [client, other] = [await connect(), await connect()];
    await subscribe(other, "size.x");
    for (let i = 0; i < 20; i += 1) {
      client.socket.emit("publish", ["size.x", random(), 0, 1, 0, Buffer.alloc(1_000_000, i)]);
      client.socket.emit("publish", ["size.x", random(), 0, 1, 0, Buffer.alloc(1, i)]);
    }
    for (let i = 0; i < 20; i += 1) {
      for (const length of [1_000_000, 1]) {
        const { raw } = await message(other, "size.x");
        assert.equal(raw.length, length);
        assert.equal(raw[0], i);
      }
    }
  },

  async "who leaves is gone for publishers"() {
    const [client, other] = [await connect(), await connect()];
    await subscribe(other, "gone.x");
    assert.deepEqual(await publish(client, "gone.x", Buffer.from("1")), { count: 1 });
    other.socket.disconnect();
    while ((await publish(client, "gone.x", Buffer.from("1"))).count > 0);
  },

  async "a client reconnects with nothing subscribed"() {
    const client = await connect();
    await subscribe(client, "back.x");
    client.socket.disconnect();
    client.heard.length = 0;
    client.socket.connect();
    await client_signed_in(client);
    assert.deepEqual(await ask(client, "subscriptions", null), []);
  },

  async "the limit of subscriptions is exact"() {
    const client = await connect();
    const wanted = Array.from({ length: 501 }, (_, i) => ({ subject: `limit.${i}`, queue: "q" }));
    const results = await ask(client, "subscribe", wanted);
    assert.equal(results.filter(({ status }) => status === "added").length, 500);
    assert.deepEqual(results[500], {
      error:
        "Error: there is a limit of at most 500 subscriptions and you currently have 500 subscriptions -- subscription to 'limit.500' denied",
      code: 429,
    });
  },

  async "a frame that is too large ends the connection"() {
    const client = await connect();
    const gone = until(client.socket, "disconnect");
    client.socket.emit("publish", ["big.x", "id", 0, 1, 0, Buffer.alloc(8_000_001)]);
    await gone;
  },
});
