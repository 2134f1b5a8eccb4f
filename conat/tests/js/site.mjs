// A whole site, run by server/tests/cli/conat/site.rs: people sign up over HTTP and are known here by their cookies.
import { once } from "node:events";
import { ConatError } from "./client.mjs";
import { assert, client_signed_in, connect, outside, run, until } from "./lib.mjs";
import { Person, auth, close } from "./people.mjs";
import { PersistStream } from "./persist.mjs";

let both;
/// Two accounts, since a site lets only some sign up in a minute.
const people = () => (both ??= Promise.all([Person.signUp(), Person.signUp()]));

async function isDenied(promise, type, subject, who) {
  const error = await promise.then(() => assert.fail(`${type} ${subject} is permitted`), (error) => error);
  assert.ok(error instanceof ConatError, `${error}`);
  const doing = { pub: "publishing to", sub: "subscribing to" }[type];
  const user = JSON.stringify({ account_id: who.id });
  assert.equal(error.message, `Error: permission denied ${doing} '${subject}' from ${user}`);
  assert.equal(error.code, 403);
}

/// What one is told who offers this, before the connection ends.
async function refused(Cookie) {
  const client = await connect({ extraHeaders: Cookie ? { Cookie } : {}, early: true });
  const gone = until(client.socket, "disconnect");
  await client_signed_in(client);
  assert.equal(await gone, "io server disconnect");
  assert.deepEqual(Object.keys(client.infos[0].user), ["error"]);
  return client.infos[0].user.error;
}

await run({
  async "a session is an account"() {
    const [ada, bob] = await people();
    const client = await ada.client();
    for (const subject of [`account.${ada.id}.x`, `notes.account-${ada.id}.x`]) {
      const heard = await client.subscribe(subject);
      assert.equal((await client.publish(subject, { from: "ada" })).count, 1);
      assert.deepEqual((await heard.next()).value.data, { from: "ada" });
    }
    const heard = await client.subscribe("public.news");
    assert.equal(heard.ended, false);
    for (const subject of [`account.${bob.id}.x`, `notes.account-${bob.id}.x`, "work.x"]) {
      await isDenied(client.subscribe(subject), "sub", subject, ada);
      await isDenied(client.publish(subject, 1), "pub", subject, ada);
      await isDenied(client.waitForInterest(subject, 10).catch((error) => {
        throw new ConatError(error.message.replace("waiting for interest in", "publishing to"), error.code);
      }), "pub", subject, ada);
    }
    for (const pattern of [">", "*.>", `*.account-${ada.id}.>`, "account.*.x", "sys.conat.>"]) {
      await isDenied(client.subscribe(pattern), "sub", pattern, ada);
    }
    await isDenied(client.publish("public.news", 1), "pub", "public.news", ada);
    await close();
  },

  async "an inbox of one's own"() {
    const [ada, bob] = await people();
    const [one, other] = [await ada.client(), await bob.client()];
    const foreign = `_INBOX.account-${ada.id}.*`;
    await isDenied(other.subscribe(foreign), "sub", foreign, bob);
    await isDenied(other.subscribe("_INBOX.x.*"), "sub", "_INBOX.x.*", bob);
    // Whoever was told an inbox may answer there.
    const inbox = await one.subscribe(`_INBOX.account-${ada.id}.one.*`);
    assert.equal((await other.publish(`_INBOX.account-${ada.id}.one.answer`, "yes")).count, 1);
    assert.equal((await inbox.next()).value.data, "yes");
    await close();
  },

  async "the functions of the hub"() {
    const [ada, bob] = await people();
    const client = await ada.client();
    assert.equal((await ada.call(client, "system.test")).account_id, ada.id);
    const other = `hub.account.${bob.id}.api`;
    await isDenied(client.request(other, { name: "system.test", args: [] }), "pub", other, ada);
    const own = `hub.account.${ada.id}.api`;
    await isDenied(client.subscribe(own), "sub", own, ada);
    await assert.rejects(ada.call(client, "system.dance"), /Error: /);
    const time = await client.request(`time.account-${ada.id}.api`, { name: "time", args: [] });
    assert.equal(typeof time.data, "number");
    await close();
  },

  async "a project is its members'"() {
    const [ada, bob] = await people();
    const [one, other] = [await ada.client(), await bob.client()];
    const project = await ada.call(one, "projects.createProject", { title: "Notes" });
    const subject = `project.${project}.0.pubsub-notes.-`;
    const heard = await one.subscribe(subject);
    await isDenied(other.subscribe(subject), "sub", subject, bob);
    await isDenied(other.publish(subject, 1), "pub", subject, bob);
    await ada.call(one, "projects.addCollaborator", { opts: { project_id: project, account_id: bob.id } });
    const both = await other.subscribe(subject);
    assert.equal((await other.publish(subject, "hello")).count, 2);
    for (const subscription of [heard, both]) assert.equal((await subscription.next()).value.data, "hello");
    // What ends is over at once, also for who listens.
    const told = once(other, "permission");
    await ada.call(one, "projects.removeCollaborator", { opts: { project_id: project, account_id: bob.id } });
    assert.deepEqual(await told.then(([{ subject, type }]) => [subject, type]), [subject, "sub"]);
    assert.equal((await one.publish(subject, "among ourselves")).count, 1);
    await isDenied(other.publish(subject, 1), "pub", subject, bob);
    await close();
  },

  // Who comes back subscribes to everything again, and what is refused by now ends.
  async "what one was removed from while away"() {
    const [ada, bob] = await people();
    const [one, other] = [await ada.client(), await bob.client()];
    const project = await ada.call(one, "projects.createProject", { title: "Away" });
    const opts = { project_id: project, account_id: bob.id };
    await ada.call(one, "projects.addCollaborator", { opts });
    const shared = await other.subscribe(`project.${project}.0.news.-`);
    const own = await other.subscribe(`account.${bob.id}.news`);
    const gone = once(other, "disconnected");
    other.socket.disconnect();
    await gone;
    await ada.call(one, "projects.removeCollaborator", { opts });
    const synced = once(other, "synced");
    other.socket.connect();
    await synced;
    await assert.rejects(shared.next(), { code: 403 });
    assert.equal(own.ended, false);
    assert.equal((await other.publish(`account.${bob.id}.news`, 1)).count, 1);
    assert.equal((await own.next()).value.data, 1);
    await close();
  },

  async "streams of one's own"() {
    const [ada, bob] = await people();
    const client = await ada.client();
    const open = (owner, path) => new PersistStream(client, { subject: `persist.account-${owner.id}`, storage: { path } });
    const stream = open(ada, `accounts/${ada.id}/notes`);
    assert.equal((await stream.set({ key: "k", value: { text: "mine" } })).seq, 1);
    assert.deepEqual((await stream.get({ key: "k" })).data, { text: "mine" });
    stream.close();
    const foreign = open(ada, `accounts/${bob.id}/notes`);
    await assert.rejects(foreign.set({ value: 1 }), { code: 403 });
    foreign.close();
    const place = `persist.account-${bob.id}.id`;
    await isDenied(client.request(place, null), "pub", place, ada);
    const service = `persist.account-${ada.id}.server.0.x`;
    await isDenied(client.subscribe(service), "sub", service, ada);
    await close();
  },

  async "who signs out is put out"() {
    const [, bob] = await people();
    const sessions = [await bob.signIn(), await bob.signIn()];
    assert.notEqual(sessions[0], sessions[1]);
    const [client, other] = [await bob.client(sessions[0]), await bob.client(sessions[1])];
    const gone = once(client, "disconnected");
    await auth("sign-out", {}, sessions[0]);
    assert.equal((await gone)[0], "io server disconnect");
    assert.equal(client.socket.active, false, "it does not come back by itself");
    assert.match(await refused(sessions[0]), /^Error: (invalid remember me cookie|remember me cookie expired)$/);
    // The other session is another one.
    assert.equal((await bob.call(other, "system.test")).account_id, bob.id);
    const everywhere = once(other, "disconnected");
    await auth("sign-out", { all: true }, sessions[1]);
    assert.equal((await everywhere)[0], "io server disconnect");
    await refused(bob.cookie);
    bob.cookie = await bob.signIn();
    assert.match(await refused("remember_me=guessed"), /^Error: (invalid remember me cookie|remember me cookie expired)$/);
    await close();
  },

  async "a key is an account until it is deleted"() {
    const [ada] = await people();
    const client = await ada.client();
    const [key] = await ada.call(client, "system.manageApiKeys", { action: "create", name: "tools" });
    const tool = await ada.client(`api_key=${key.secret}`);
    assert.equal((await ada.call(tool, "system.test")).account_id, ada.id);
    const gone = once(tool, "disconnected");
    await ada.call(client, "system.manageApiKeys", { action: "delete", id: key.id });
    assert.equal((await gone)[0], "io server disconnect");
    assert.equal(await refused(`api_key=${key.secret}`), "Error: api key no longer valid");
    // A bad credential is not passed over for a good one.
    assert.equal(await refused(`${ada.cookie}; api_key=sk-guessed`), "Error: api key no longer valid");
    await close();
  },

  async "without a cookie nobody is let in"() {
    assert.match(await refused(), /^Error: no auth cookie set; set one of /);
    assert.match(await refused("something=else"), /^Error: no auth cookie set; set one of /);
    assert.equal(await refused("hub_password=guessed"), "Error: invalid hub password");
  },

  async "a session that is over"() {
    const [ada, bob] = await people();
    await ada.client();
    await outside("end the time of all sessions");
    for (const person of [ada, bob]) assert.equal(await refused(person.cookie), "Error: remember me cookie expired");
    const again = await ada.client(await ada.signIn());
    assert.equal((await ada.call(again, "system.test")).account_id, ada.id);
    await close();
  },
});
