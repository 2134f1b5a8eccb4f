// One end of an exchange, told what to do by tests/socketio/matrix.rs: a line of JSON in, a line of JSON out.
import { createInterface } from "node:readline";
import { Client } from "./client.mjs";
import { assert } from "./lib.mjs";

const client = new Client();
const subscriptions = new Map();

const describe = ({ subject, raw, headers, encoding }) => {
  assert.ok(raw.equals(Buffer.alloc(raw.length, raw[0])), "a payload is one byte again and again");
  const { "CN-Reply": _, ...rest } = headers ?? {};
  return { subject, len: raw.length, byte: raw[0] ?? 0, headers: rest, encoding };
};
const content = ({ len, byte, headers, encoding }) => ({ raw: Buffer.alloc(len, byte), headers, encoding });

const commands = {
  async subscribe({ pattern, group }) {
    subscriptions.set(pattern, await client.subscribe(pattern, { queue: group ?? undefined }));
  },
  async unsubscribe({ pattern }) {
    subscriptions.get(pattern).close();
    await client.interest("nobody.asks");
  },
  async publish({ subject, ...message }) {
    return (await client.publish(subject, null, content(message))).count;
  },
  async hear({ pattern }) {
    return describe((await subscriptions.get(pattern).next()).value);
  },
  async waiting({ pattern }) {
    return subscriptions.get(pattern).waiting.splice(0).length;
  },
  async answer({ pattern }) {
    const { value } = await subscriptions.get(pattern).next();
    const { "CN-Reply": _, ...headers } = value.headers;
    await value.respond(null, { raw: value.raw, encoding: value.encoding, headers: { ...headers, answered: true } });
  },
  async request({ subject, ...message }) {
    return describe(await client.request(subject, null, content(message)));
  },
};

await client.signedIn();
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...parameters } = JSON.parse(line);
  console.log(JSON.stringify((await commands[name](parameters)) ?? null));
}
await client.close();
