// What a client is told that may not do everything: `work.>` and answers, and nothing under `work.secret`.
import { ask, assert, client_signed_in, connect, next, publish, run, subscribe } from "./lib.mjs";

const user = JSON.stringify({ account_id: "1f" });
const pub = `permission denied publishing to 'secret.x' from ${user}`;
const sub = `permission denied subscribing to 'secret.x' from ${user}`;
const cookie = { extraHeaders: { Cookie: "user=account-1f" } };

await run({
  async "who one is"() {
    const client = await connect(cookie);
    assert.deepEqual(client.infos[0].user, { account_id: "1f" });
  },

  async "a refused subscription"() {
    const client = await connect(cookie);
    assert.deepEqual(await subscribe(client, "secret.x"), { error: `Error: ${sub}`, code: 403 });
    // The event came before the answer.
    const [said] = client.heard.filter(({ event }) => event === "permission");
    assert.deepEqual(said.args[0], { message: sub, subject: "secret.x", type: "sub" });
    assert.deepEqual(await subscribe(client, "work.x"), { status: "added" });
  },

  async "a refused message, each time"() {
    const client = await connect(cookie);
    for (let i = 0; i < 3; i += 1) {
      assert.deepEqual(await publish(client, "secret.x", Buffer.from("1")), { error: `Error: ${pub}`, code: 403 });
      const said = client.heard.filter(({ event }) => event === "permission");
      assert.equal(said.length, i + 1);
      assert.deepEqual(said[i].args[0], { message: pub, subject: "secret.x", type: "pub" });
    }
  },

  async "a refused message that nobody asks about, each time"() {
    const client = await connect(cookie);
    for (let i = 0; i < 3; i += 1) {
      client.socket.emit("publish", ["secret.x", "id", 0, 1, 0, Buffer.from("1")]);
      await next(client, ({ event }) => event === "permission");
    }
  },

  async "interest in what one may not publish to"() {
    const client = await connect(cookie);
    const answer = await ask(client, "wait-for-interest", { subject: "secret.x", timeout: 1000 });
    assert.equal(answer.code, 403);
    assert.match(answer.error, /^Error: permission denied/);
  },

  async "nobody is told why and put out"() {
    const client = await connect({ extraHeaders: { Cookie: "user=nobody" }, early: true });
    const gone = new Promise((resolve) => client.socket.once("disconnect", resolve));
    await client_signed_in(client);
    assert.deepEqual(client.infos[0].user, { error: "Error: nobody may not connect" });
    assert.equal(await gone, "io server disconnect");
  },

  async "a permission that ends"() {
    const client = await connect(cookie);
    await subscribe(client, "work.passing");
    client.heard.length = 0;
    const other = await connect(cookie);
    await publish(other, "work.revoke", Buffer.from("1"));
    const said = await next(client, ({ event }) => event === "permission");
    assert.equal(said.args[0].subject, "work.passing");
    assert.equal(said.args[0].type, "sub");
    // It is told again who it is, so that it compares its subscriptions.
    await client_signed_in(client);
    assert.deepEqual(await ask(client, "subscriptions", null), []);
  },
});
