// The other side of tests/socketio/interop.rs: everything goes to a native client and comes back from one.
import { ask, assert, connect, message, publish, random, request, run, subscribe } from "./lib.mjs";

await run({
  async exchange() {
    const client = await connect();
    const patterns = ["to.conat.*", "conat.echo", "work.*"];
    for (const pattern of patterns) assert.deepEqual(await subscribe(client, pattern, "0"), { status: "added" });

    assert.deepEqual(await publish(client, "to.native.plain", Buffer.from("hello")), { count: 1 });
    const headers = { h: { "ä": [1] } };
    assert.deepEqual(await publish(client, "to.native.headers", Buffer.from("{}"), { headers, encoding: 1 }), { count: 1 });
    const raw = Buffer.alloc(20_000_000, 7);
    const id = random();
    const counts = [];
    for (let seq = 0, at = 0; at < raw.length; seq += 1, at += 7_900_000) {
      const done = at + 7_900_000 >= raw.length ? 1 : 0;
      const chunk = ["to.native.large.x", id, seq, done, 0, raw.subarray(at, at + 7_900_000)];
      if (done) chunk.push({ last: true });
      counts.push(ask(client, "publish", chunk));
    }
    assert.equal(Math.max(...(await Promise.all(counts)).map(({ count }) => count)), 1);

    const answer = await request(client, "native.echo", Buffer.from("1"), { headers: { a: 1 } });
    assert.deepEqual(answer.headers, { a: 1, echo: true });
    assert.equal(answer.encoding, 1);

    const plain = await message(client, "to.conat.*");
    assert.equal(plain.raw.toString(), "hello");
    assert.equal(plain.headers, undefined);
    const withHeaders = await message(client, "to.conat.*");
    assert.deepEqual(withHeaders.headers, headers);
    assert.equal(withHeaders.encoding, 1);
    const large = await message(client, "to.conat.*");
    assert.ok(large.raw.equals(Buffer.alloc(20_000_000, 9)));
    assert.deepEqual(large.headers, headers);

    const asked = await message(client, "conat.echo");
    await publish(client, asked.headers["CN-Reply"], asked.raw, { headers: { echo: true } });

    const done = await message(client, "to.conat.*");
    assert.equal(done.subject, "to.conat.done");
    const taken = client.heard.filter(({ event }) => event === "work.*").length;
    await publish(client, "to.native.count", Buffer.from(String(taken)), { encoding: 1 });
  },
});
