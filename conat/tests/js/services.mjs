// Services and sockets between existing clients and programs in Rust; the other side is tests/socketio/services.rs.
import { once } from "node:events";
import { Client, pack } from "./client.mjs";
import { Changefeed, ask } from "./follow.mjs";
import { assert, outside, run } from "./lib.mjs";
import { SocketClient, SocketServer } from "./socket.mjs";

/// Cuts the connection under a client; socket.io-client comes back by itself.
const cut = (client) => client.socket.io.engine.close();

/// What is heard on a socket, message by message.
async function* heard(socket) {
  const waiting = [];
  let wake;
  socket.on("data", (...said) => {
    waiting.push(said);
    wake?.();
  });
  for (;;) {
    while (waiting.length === 0) await new Promise((resolve) => (wake = resolve));
    yield waiting.shift();
  }
}

await run({
  async "what time it is"() {
    const client = new Client();
    const before = Date.now();
    const time = (await client.request("time.account-1f.api", { name: "time", args: [] }, { waitForInterest: true })).data;
    assert.ok(time >= before - 60_000 && time <= Date.now() + 60_000, `${time}`);
    assert.equal((await client.request("time.hub.api", "ping")).data, "pong");
    const { data } = await client.request("time.hub.api", { name: "dance", args: [] });
    assert.deepEqual(data, { error: "Error: dance not defined" });
    await client.close();
  },

  async "a service in Rust"() {
    const client = new Client();
    const service = client.call("rust.listed", { waitForInterest: true });
    assert.deepEqual(await service.echo(1, "ä", [null]), ["rust.listed", 1, "ä", [null]]);
    await assert.rejects(service.fail("so"), /Error: so/);
    await assert.rejects(service.other(), /other not defined/);
    await client.close();
  },

  async "a service that Rust calls"() {
    const client = new Client();
    await client.service("js.listed", {
      add: (a, b) => a + b,
      fail() {
        throw new Error(`no ${this.subject}`);
      },
    });
    await outside("call js.listed");
    await client.close();
  },

  // Messages both ways in order and each once, although the connection is cut again and again.
  async "a socket to a server in Rust"() {
    const client = new Client();
    const socket = new SocketClient(client, "rust.room.a");
    await socket.ready();
    assert.equal(socket.server, "s1");
    const echoes = heard(socket);
    const count = 300;
    for (let i = 0; i < count; i += 1) {
      socket.write({ i }, { headers: { h: i } });
      if (i % 100 === 50) {
        const back = once(client, "synced");
        cut(client);
        await back;
        await socket.ready();
      }
    }
    for (let i = 0; i < count; i += 1) {
      const [data, headers] = (await echoes.next()).value;
      assert.deepEqual([data, headers.h], [{ i }, i]);
    }
    await socket.drained();
    // What was acknowledged is gone, and what comes twice is acknowledged again.
    const lost = await socket.command("socket", { socket: { missing: [1] } });
    assert.deepEqual([lost.data, lost.headers], [null, { error: "nodata" }]);
    const again = once(socket, "acknowledged");
    socket.send({ encoding: 0, raw: pack({ i: 0 }), headers: { "CN-SocketSeq": 1 } });
    await again;
    assert.deepEqual((await socket.request({ ask: 1 }, { headers: { a: 2 } })).data, { ask: 1 });
    const answers = [];
    for await (const { data } of await socket.requestMany("count", { maxWait: 30_000, maxMessages: 3 })) answers.push(data);
    assert.deepEqual(answers, [0, 1, 2]);
    const large = Buffer.alloc(9_000_000, 3);
    socket.write(large);
    assert.ok(large.equals((await echoes.next()).value[0]));
    assert.equal(socket.resets, 0);
    const closed = once(socket, "disconnected");
    await socket.request("close");
    assert.equal((await closed)[0], "closed");
    socket.close();
    await client.close();
  },

  async "a socket from Rust"() {
    const client = new Client();
    const server = await SocketServer.listen(client, "js.room.*");
    const connected = once(server, "connection");
    const outcome = outside("connect js.room.b");
    const [socket] = await connected;
    assert.match(socket.subject, /^js\.room\.b\.server\./);
    socket.on("data", (data, headers, { raw, encoding }) => socket.write(null, { headers, raw, encoding }));
    socket.on("request", (request) => void request.respond({ asked: request.data }));
    await outcome;
    if (socket.state !== "closed") await once(socket, "closed");
    server.close();
    await client.close();
  },

  // More than may be under way at once, and the last words before the end.
  async "a query that is followed to its end"() {
    const client = new Client();
    const feed = Changefeed.open(client, "rust.feeds.a", { updates: 2_500, ends: true });
    for (let number = 0; number < 2_500; number += 1) assert.deepEqual(await feed.next(), { number });
    await assert.rejects(feed.next(), { code: 429, message: "Error: the query has ended" });
    assert.equal(await feed.next(), undefined);
    await client.close();
  },

  async "a feed ends with its connection"() {
    const client = new Client();
    const feed = Changefeed.open(client, "rust.feeds.b", { updates: 1, ends: false });
    assert.deepEqual(await feed.next(), { number: 0 });
    const back = once(client, "synced");
    cut(client);
    assert.equal(await feed.next(), undefined);
    await back;
    const again = Changefeed.open(client, "rust.feeds.b", { updates: 2, ends: false });
    assert.deepEqual([await again.next(), await again.next()], [{ number: 0 }, { number: 1 }]);
    again.close();
    await client.close();
  },

  async "an answer in numbered pieces, which ends with nothing or with an error"() {
    const client = new Client();
    const pieces = [];
    for await (const text of ask(client, "rust.model.x", { input: "hello" })) pieces.push(text);
    assert.deepEqual(pieces, ["hello", "hello", "hello"]);
    const failing = ask(client, "rust.model.x", { input: "" });
    await assert.rejects(failing.next(), { message: "Error: nothing was asked", code: "bad-request" });
    await client.close();
  },

  async "a server that is not there any more"() {
    const client = new Client();
    const socket = new SocketClient(client, "rust.room.gone", { reconnection: false });
    await socket.ready();
    const closed = once(socket, "closed");
    await outside("end rust.room");
    await closed;
    await client.close();
  },
});
