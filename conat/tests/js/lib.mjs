// What the scripts have in common: a client as the predecessor's, without its comforts.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { decode, encode } from "@msgpack/msgpack";
import { io } from "socket.io-client";

export { assert, decode, encode };

const PATIENCE = 60_000;
export const patience = PATIENCE;
/// Where the broker is, and which parts of a script are to be run: all where none is named.
export const [, , address, ...wanted] = process.argv;
/// What is closed at the end of a part.
export const opened = [];

/// A connection, with everything that it was told.
export async function connect(options = {}) {
  const url = new URL(options.address ?? address);
  const base = url.pathname === "/" ? "" : url.pathname.replace(/\/$/, "");
  const socket = io(url.origin, {
    path: `${base}/conat`,
    transports: ["websocket"],
    forceNew: true,
    reconnection: false,
    rejectUnauthorized: false,
    ...options,
  });
  opened.push(socket);
  const client = {
    socket,
    heard: [],
    waiting: [],
    infos: [],
  };
  socket.onAny((event, ...args) => {
    const ack = args.at(-1);
    if (event === "info") {
      client.infos.push(args[0]);
      if (typeof ack === "function" && !options.silent) ack();
    }
    client.heard.push({ event, args });
    client.waiting.splice(0).forEach((wake) => wake());
  });
  if (options.autoConnect !== false && !options.early) {
    await client_signed_in(client);
  }
  return client;
}

export async function client_signed_in(client) {
  await next(client, (said) => said.event === "info");
}

/// The first thing that was told and fits, taken out of what was told.
export async function next(client, fits) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const at = client.heard.findIndex(fits);
    if (at >= 0) return client.heard.splice(at, 1)[0];
    const left = deadline - Date.now();
    if (left <= 0) throw new Error(`nothing fits in time: ${fits}`);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, left);
      client.waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

export function ask(client, event, ...args) {
  return client.socket.timeout(PATIENCE).emitWithAck(event, ...args);
}

export function subscribe(client, subject, queue = random()) {
  return ask(client, "subscribe", { subject, queue });
}

export function random() {
  return Math.random().toString(36).slice(2, 12).padEnd(10, "x");
}

/// Publishes in one chunk and waits for the count.
export function publish(client, subject, raw, { headers, encoding = 0, id = random() } = {}) {
  const message = [subject, id, 0, 1, encoding, raw];
  if (headers !== undefined) message.push(headers);
  return ask(client, "publish", message);
}

/// A message for a pattern, put together from its chunks.
export async function message(client, pattern) {
  const chunks = [];
  let id;
  for (;;) {
    const said = await next(
      client,
      (said) =>
        said.event === pattern && (id === undefined || said.args[0].data[0] === id),
    );
    const { subject, data } = said.args[0];
    const [name, seq, done, encoding, raw, headers] = data;
    id = name;
    assert.equal(seq, chunks.length, "chunks come in order");
    assert.ok(Buffer.isBuffer(raw), "the payload is binary");
    chunks.push(raw);
    if (done) return { subject, encoding, raw: Buffer.concat(chunks), headers, chunks: chunks.length };
  }
}

/// A request and its first answer.
export async function request(client, subject, raw, { headers = {}, encoding = 0 } = {}) {
  const inbox = `_INBOX.${random()}`;
  assert.deepEqual(await subscribe(client, `${inbox}.*`), { status: "added" });
  const sent = await publish(client, subject, raw, {
    headers: { ...headers, "CN-Reply": `${inbox}.${random()}` },
    encoding,
  });
  assert.ok(sent.count > 0, `nobody answers ${subject}: ${JSON.stringify(sent)}`);
  const answer = await message(client, `${inbox}.*`);
  await ask(client, "unsubscribe", { subject: `${inbox}.*` });
  return answer;
}

export function until(socket, event) {
  return new Promise((resolve) => socket.once(event, resolve));
}

/// Lines of whoever runs the script, one at a time.
const lines = (async function* () {
  yield* createInterface({ input: process.stdin });
})();

/// Tells whoever runs the script that something is to be done, and waits until it says that it is done; it may say
/// something about it.
export async function outside(what) {
  console.log(what);
  const { value, done } = await lines.next();
  if (done) throw new Error(`nobody does "${what}"`);
  return value;
}

/// Runs the parts of a script one after the other, and says which one fails.
export async function run(parts) {
  const unknown = wanted.filter((name) => !(name in parts));
  if (unknown.length > 0) throw new Error(`there is no part ${unknown}`);
  for (const [name, part] of Object.entries(parts)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    try {
      await part();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`failed ${name}: ${error}`.replaceAll("\n", " "));
      console.error(error);
      process.exitCode = 1;
    }
    opened.splice(0).forEach((socket) => socket.disconnect());
  }
  // Timers of questions that nobody waits for any more would keep the process for a minute.
  process.exit();
}
