// What administrators ask, in the convention of services: [name, arguments].
import { address, ask, assert, connect, decode, encode, request, run, subscribe, until } from "./lib.mjs";

const call = async (client, subject, name, ...args) => {
  const answer = await request(client, subject, encode([name, args]));
  if (answer.headers?.error) throw new Error(answer.headers.error);
  return decode(answer.raw);
};

await run({
  async "stats and usage"() {
    const client = await connect();
    await subscribe(client, "some.thing");
    client.socket.emit("stats", { recv0: { messages: 7, bytes: 9 } });
    await ask(client, "subscriptions", null);
    const { id } = client.infos[0];
    const stats = (await call(client, "sys.conat.default", "stats"))[id];
    const own = stats[client.socket.id];
    assert.equal(own.user, null);
    assert.deepEqual(own.recv, { messages: 7, bytes: 9 });
    assert.equal(own.subs, 2);
    assert.ok(own.send.messages >= 1 && own.send.bytes > 0);
    assert.ok(own.active >= own.connected && own.connected > 1.7e12);
    assert.equal(own.address, "127.0.0.1");
    const usage = (await call(client, "sys.conat.default", "usage"))[id];
    assert.deepEqual(usage, { total: 1, perUser: { null: 1 } });
  },

  async "one node alone says where nodes are"() {
    const client = await connect();
    const { id } = client.infos[0];
    assert.deepEqual(await call(client, `sys.conat.default.${id}`, "clusterAddresses"), [address]);
    assert.deepEqual(await call(client, `sys.conat.default.${id}`, "clusterTopology"), { default: { [id]: address } });
    await assert.rejects(call(client, "sys.conat.default", "clusterAddresses"), /wrong service/);
    await assert.rejects(call(client, "sys.conat.default", "dance"), /dance not defined/);
  },

  async "a client is put out"() {
    const [client, other] = [await connect(), await connect()];
    const gone = until(other.socket, "disconnect");
    await call(client, "sys.conat.default", "disconnect", [other.socket.id, "nobody"]);
    assert.equal(await gone, "io server disconnect");
  },
});
