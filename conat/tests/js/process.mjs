// Against the real binary, run by server/tests/cli/conat.rs: what passwords, limits, signals and restarts do to clients.
import { once } from "node:events";
import { Client } from "./client.mjs";
import { address, ask, assert, client_signed_in, connect, encode, message, outside, publish, random, request, run, subscribe, until } from "./lib.mjs";
import { PersistStream } from "./persist.mjs";

const project = "5f3a2c51-7d2e-4c39-9d4b-5a0d0c3f7b11";

await run({
  async exchange() {
    const [client, other] = [await connect(), await connect()];
    assert.equal(client.infos[0].user, null);
    await subscribe(other, "a.*");
    assert.deepEqual(await publish(client, "a.b", encode({ x: 1 }), { headers: { h: 1 } }), { count: 1 });
    assert.deepEqual((await message(other, "a.*")).headers, { h: 1 });
    const [own] = await ask(client, "cluster");
    assert.equal(own, address);
  },

  async "the system password"() {
    const of = (Cookie, more) => connect({ extraHeaders: { Cookie }, ...more });
    const system = await of("a=b; sys=a%20secret");
    assert.deepEqual(system.infos[0].user, { hub_id: "system" });
    const nobody = await connect();
    assert.equal(nobody.infos[0].user, null);
    const wrong = await of("sys=wrong", { early: true });
    const gone = until(wrong.socket, "disconnect");
    await client_signed_in(wrong);
    assert.deepEqual(wrong.infos[0].user, { error: "Error: invalid system account password" });
    assert.equal(await gone, "io server disconnect");
    const comfortable = new Client({ systemAccountPassword: "a%20secret" });
    const usage = await comfortable.call("sys.conat.default").usage();
    assert.deepEqual(Object.values(usage)[0].perUser, { '{"hub_id":"system"}': 2, null: 1 });
    await comfortable.close();
  },

  async "administrators put a client out"() {
    const [admin, client] = [await connect(), await connect({ reconnection: true, reconnectionDelay: 1 })];
    const gone = until(client.socket, "disconnect");
    await request(admin, "sys.conat.default", encode(["disconnect", [client.socket.id]]));
    assert.equal(await gone, "io server disconnect");
    // Whoever was put out comes back only when told to.
    assert.equal(client.socket.active, false);
    client.heard.length = 0;
    client.socket.connect();
    await client_signed_in(client);
  },

  async "nobody answers administrators"() {
    const client = await connect();
    assert.deepEqual(await publish(client, "sys.conat.default", encode(["stats", []])), { count: 0 });
  },

  async "five subscriptions"() {
    const client = await connect();
    for (let i = 0; i < 5; i += 1) assert.deepEqual(await subscribe(client, `limit.${i}`), { status: "added" });
    const text = "there is a limit of at most 5 subscriptions and you currently have 5 subscriptions -- subscription to 'limit.5' denied";
    assert.deepEqual(await subscribe(client, "limit.5"), { error: `Error: ${text}`, code: 429 });
    await ask(client, "unsubscribe", { subject: "limit.0" });
    assert.deepEqual(await subscribe(client, "limit.5"), { status: "added" });
  },

  async "ten subscriptions of a hub"() {
    const client = await connect({ extraHeaders: { Cookie: "sys=a%20secret" } });
    const results = await ask(client, "subscribe", Array.from({ length: 11 }, (_, i) => ({ subject: `limit.${i}`, queue: "q" })));
    assert.deepEqual(results.map(({ status, code }) => status ?? code), [...Array(10).fill("added"), 429]);
  },

  async "small frames alone"() {
    const client = await connect();
    assert.equal(client.infos[0].max_payload, 200_000);
    const gone = until(client.socket, "disconnect");
    client.socket.emit("publish", ["big.x", "id", 0, 1, 0, Buffer.alloc(200_001)]);
    await gone;
  },

  // The broker is stopped and started while clients are connected; what they subscribed to comes back by itself.
  async "a broker that stops and comes back"() {
    const [client, publisher] = [new Client(), new Client()];
    const heard = await client.subscribe("back.*", { queue: "0" });
    const group = await publisher.subscribe("back.again.>", { queue: "1" });
    const service = await client.service("back.service", { add: (a, b) => a + b });
    assert.equal((await publisher.publish("back.1", 1)).count, 1);
    assert.equal((await heard.next()).value.data, 1);
    const reasons = [client, publisher].map((client) => once(client, "disconnected"));
    const synced = [client, publisher].map((client) => once(client, "synced"));
    await outside("restart");
    // Whoever is sent away like this comes back by itself.
    for (const reason of reasons) assert.match((await reason)[0], /^transport (close|error)$/);
    await Promise.all(synced);
    assert.equal(client.infos.length, 2);
    assert.equal((await publisher.publish("back.2", 2, { waitForInterest: true })).count, 1);
    const { value } = await heard.next();
    assert.deepEqual([value.subject, value.data], ["back.2", 2]);
    assert.equal((await client.publish("back.again.x", 3)).count, 1);
    assert.equal((await group.next()).value.data, 3);
    assert.equal(await publisher.call("back.service").add(1, 2), 3);
    assert.deepEqual((await publisher.waitForInterest("back.service")), true);
    await Promise.all([client.close(), publisher.close()]);
    assert.equal(service.ended, true);
  },

  // What a client does while the broker drains is still answered.
  async "the last words of a broker"() {
    const client = await connect();
    await subscribe(client, "last.x");
    const gone = until(client.socket, "disconnect");
    await outside("stop");
    assert.match(await gone, /^transport (close|error)$/);
  },

  // A writer and a follower while the service is stopped, and killed, again and again.
  async "a storage session through restarts"() {
    const clients = [new Client(), new Client()];
    const options = {
      subject: `persist.project-${project}`,
      storage: { path: `projects/${project}/session` },
      keepAlive: 500,
      timeout: 3_000,
    };
    const writer = new PersistStream(clients[0], options);
    const follower = new PersistStream(clients[1], { ...options, changefeed: true });
    follower.fromStart = true;
    await follower.until(({ following }) => following);
    const written = [];
    let wanted = 40;
    const write = async () => {
      while (written.length < wanted) {
        const number = written.length;
        // The same id for every attempt, so that what was stored and not acknowledged is not stored again.
        const { seq } = await writer.set({ value: { number }, key: `k${number}`, msgID: `m${number}` });
        written.push(seq);
      }
    };
    await write();
    for (let round = 0; round < 3; round += 1) {
      wanted += 40;
      const writing = write();
      await outside(round === 0 ? "restart" : "kill");
      await writing;
    }
    wanted += 10;
    await write();
    const rows = await writer.getAll();
    const { decode } = await import("@msgpack/msgpack");
    assert.deepEqual(rows.map(({ raw }) => decode(raw).number), written.map((_, number) => number), "each once, in order");
    assert.deepEqual(rows.map(({ seq }) => seq), written);
    await follower.until(({ changes }) => changes.length >= written.length);
    assert.deepEqual(follower.changes.map(({ key }) => key), written.map((_, number) => `k${number}`), "the feed told each once");
    assert.ok(writer.reconnects > 0 && follower.reconnects > 0, `${writer.reconnects}, ${follower.reconnects}`);
    writer.close();
    follower.close();
    await Promise.all(clients.map((client) => client.close()));
  },

  async "a storage session in front of several nodes"() {
    const client = new Client();
    const stream = new PersistStream(client, { subject: "persist.hub", storage: { path: "hub/one" } });
    assert.equal((await stream.set({ value: random() })).seq, 1);
    stream.close();
    await client.close();
  },
});
