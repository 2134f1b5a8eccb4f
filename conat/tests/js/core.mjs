// What the predecessor's own client does all day, with both ends here: requests, services, waiting, sockets.
import { once } from "node:events";
import { Client, ConatError } from "./client.mjs";
import { address, assert, random, run } from "./lib.mjs";
import { SocketClient, SocketServer } from "./socket.mjs";

const rejects = async (promise, code, text) => {
  const error = await promise.then(() => assert.fail("it must fail"), (error) => error);
  assert.ok(error instanceof ConatError, `${error}`);
  assert.equal(error.code, code);
  if (text) assert.equal(error.message, text);
};
const clients = (count, options) => Array.from({ length: count }, () => new Client(options));
const close = (...all) => Promise.all(all.map((client) => client.close()));

await run({
  async "requests and their failures"() {
    const [client, service] = clients(2);
    await rejects(client.request("core.nobody", 1), 503, "request -- no subscribers matching 'core.nobody'");
    const requests = await service.subscribe("core.silent");
    await rejects(client.request("core.silent", 1, { timeout: 50 }), 408, "timeout");
    const { value: late } = await requests.next();
    // The requester is there, and does not listen to this answer any more.
    assert.equal((await late.respond("late")).count, 1);
    assert.equal((await client.publish("core.silent", { undefined, kept: 1 })).count, 1);
    const { value: plain } = await requests.next();
    assert.deepEqual(plain.data, { kept: 1 });
    assert.deepEqual(await plain.respond("nobody asked"), { bytes: 0, count: 0 });
    await close(client, service);
  },

  async "several answers to one request"() {
    const [client, ...services] = clients(4);
    for (const [at, service] of services.entries()) {
      const requests = await service.subscribe("core.many", { queue: `group ${at}` });
      requests.on("message", async (request) => {
        for (let i = 0; i < 3; i += 1) request.respondSync({ at, i });
        if (at === 0) await request.respond(null);
      });
    }
    const answers = [];
    for await (const answer of await client.requestMany("core.many", null, { maxWait: 20_000, maxMessages: 10 })) answers.push(answer.data);
    assert.equal(answers.length, 10);
    for (const at of [0, 1, 2]) assert.deepEqual(answers.filter((answer) => answer?.at === at).map(({ i }) => i), [0, 1, 2]);
    assert.equal(answers.filter((answer) => answer === null).length, 1);
    // The fastest of several is the answer of a plain request.
    assert.ok([0, 1, 2].includes((await client.request("core.many", null)).data.at));
    await close(client, ...services);
  },

  async "publishing waits for interest"() {
    const [client, other] = clients(2);
    assert.equal((await client.publish("core.later", 1)).count, 0);
    assert.equal(await client.interest("core.later"), false);
    const waiting = client.publish("core.later", 2, { waitForInterest: true });
    const asked = client.request("core.later.too", 3, { waitForInterest: true });
    await client.interest("core.later");
    const heard = await other.subscribe("core.>");
    assert.equal((await waiting).count, 1);
    // Both waited for the same, and either may be first.
    const both = [(await heard.next()).value, (await heard.next()).value];
    assert.deepEqual(both.map(({ data }) => data).sort(), [2, 3]);
    await both.find(({ reply }) => reply).respond(4);
    assert.equal((await asked).data, 4);
    assert.equal(await client.interest("core.later"), true);
    await close(client, other);
  },

  async "a service of one function among several that share it"() {
    const [client, ...services] = clients(4);
    for (const service of services) {
      await service.service("core.service.*", {
        who() {
          return [this.subject, service.socket.id];
        },
        async nothing() {},
        fail() {
          throw new TypeError("no");
        },
      });
    }
    const service = client.call("core.service.x");
    const answering = new Set();
    for (let i = 0; i < 60; i += 1) {
      const [subject, id] = await service.who();
      assert.equal(subject, "core.service.x");
      answering.add(id);
    }
    assert.deepEqual([...answering].sort(), services.map(({ socket }) => socket.id).sort());
    assert.equal(await service.nothing(), null);
    await assert.rejects(service.fail(), /TypeError: no/);
    await assert.rejects(service.other(), /Error: other not defined/);
    await close(client, ...services);
  },

  async "a service that all of its instances answer"() {
    const [client, ...services] = clients(3);
    for (const [at, service] of services.entries()) await service.service("core.all", { at: () => at }, { queue: random() });
    const answers = await client.requestMany("core.all", ["at", []], { maxWait: 20_000, maxMessages: 2 });
    const found = [];
    for await (const { data } of answers) found.push(data);
    assert.deepEqual(found.sort(), [0, 1]);
    await close(client, ...services);
  },

  async "subscriptions end when they are told to, and messages are bounded"() {
    const [client, other] = clients(2);
    const three = await client.subscribe("core.three", { mesgLimit: 3 });
    for (let i = 0; i < 5; i += 1) await other.publish("core.three", i);
    const heard = [];
    for await (const { data } of three) heard.push(data);
    assert.deepEqual(heard, [0, 1, 2]);
    // The server has heard of the end before it answers this.
    await client.interest("core.three");
    assert.equal((await other.publish("core.three", 6)).count, 0);
    await rejects(client.requestMany("core.echo", 1, { maxWait: 10 }), 503, "request -- no subscribers matching 'core.echo'");
    assert.deepEqual(await client.cluster(), [address]);
    await close(client, other);
  },

  async "an inbox of one's own"() {
    const [client, service] = [new Client({ inboxPrefix: "_INBOX.account-1f" }), new Client()];
    const requests = await service.subscribe("core.inbox");
    requests.on("message", (request) => void request.respond(request.reply));
    assert.match((await client.request("core.inbox", 1)).data, /^_INBOX\.account-1f\.\w{10}\.\w{10}$/);
    await close(client, service);
  },

  async "sockets between two clients, with a server that comes back"() {
    const [client, service] = clients(2);
    const serve = async () => {
      const server = await SocketServer.listen(service, "core.socket.*", { id: "0" });
      server.on("connection", (socket) => socket.on("data", (data) => socket.write(data)));
      return server;
    };
    let server = await serve();
    const socket = new SocketClient(client, "core.socket.a");
    await socket.ready();
    const echoed = [];
    socket.on("data", (data) => echoed.push(data));
    for (let i = 0; i < 100; i += 1) socket.write(i);
    await socket.drained();
    while (echoed.length < 100) await once(socket, "data");
    assert.deepEqual(echoed, Array.from({ length: 100 }, (_, i) => i));
    assert.throws(() => {
      for (let i = 0; i <= 1_000; i += 1) socket.write(i);
    }, { code: "ENOBUFS" });
    const gone = once(socket, "disconnected");
    server.close();
    await gone;
    socket.close();
    assert.throws(() => socket.write(1), { code: "EPIPE" });
    server = await serve();
    const again = new SocketClient(client, "core.socket.b");
    again.write("first");
    const [data] = await once(again, "data");
    assert.equal(data, "first");
    again.close();
    server.close();
    await close(client, service);
  },

  async "messages of every size that chunks can have"() {
    const [client, other] = clients(2);
    await Promise.all([client.signedIn(), other.signedIn()]);
    const heard = await other.subscribe("core.size");
    const size = client.chunkLength;
    for (const length of [0, 1, size - 1, size, size + 1, 2 * size, 2 * size + 1]) {
      const raw = Buffer.alloc(length, 5);
      assert.equal((await client.publish("core.size", null, { raw, headers: { length } })).count, 1);
      const { value } = await heard.next();
      assert.ok(value.raw.equals(raw), `${length}`);
      assert.deepEqual(value.headers, { length });
      assert.ok(value.chunks >= Math.ceil(length / size));
    }
    await close(client, other);
  },
});
