// A client of the predecessor's protocol with the comforts that its own client has: subscriptions that survive
// reconnects, requests with one or many answers, chunks. Written from docs/conat.md.
import { EventEmitter, once } from "node:events";
import { decode, encode } from "@msgpack/msgpack";
import { io } from "socket.io-client";
import { address as defaultAddress, patience, random } from "./lib.mjs";

const INBOX = "_INBOX";
const CHUNK_RESERVE = 100_000;

export class ConatError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

/// A value as the predecessor encodes it.
export const pack = (value) => Buffer.from(encode(value ?? null, { ignoreUndefined: true }));

export class Client extends EventEmitter {
  subscriptions = new Map();
  denied = new Map();
  infos = [];
  isSynced = false;

  constructor({ address = defaultAddress, systemAccountPassword, inboxPrefix = INBOX, ...options } = {}) {
    super();
    this.setMaxListeners(0);
    this.inboxPrefix = inboxPrefix;
    const url = new URL(address);
    const base = url.pathname.replace(/\/$/, "");
    if (systemAccountPassword) options.extraHeaders = { Cookie: `sys=${systemAccountPassword}` };
    this.socket = io(url.origin, {
      path: `${base}/conat`,
      transports: ["websocket"],
      forceNew: true,
      rejectUnauthorized: false,
      reconnectionDelay: 20,
      reconnectionDelayMax: 100,
      ...options,
    });
    this.socket.on("info", (info, ack) => {
      if (typeof ack === "function") ack();
      this.infos.push(info);
      this.info = info;
      this.emit("info", info);
      if (!info.user?.error) void this.#resync();
    });
    this.socket.on("permission", (said) => {
      this.denied.set(`${said.type}:${said.subject}`, said.message);
      this.emit("permission", said);
    });
    this.socket.on("disconnect", (reason) => {
      this.info = undefined;
      this.isSynced = false;
      this.emit("disconnected", reason);
    });
  }

  get connected() {
    return this.socket.connected && this.info !== undefined && !this.info.user?.error;
  }

  async signedIn() {
    if (this.connected) return this.info;
    if (this.info === undefined) await once(this, "info");
    if (this.info?.user?.error) throw new ConatError("failed to sign in", 403);
    return this.info;
  }

  async #ask(event, argument, timeout = patience) {
    await this.signedIn();
    const answer = await this.socket.timeout(timeout).emitWithAck(event, argument);
    if (answer?.error) throw new ConatError(answer.error, answer.code);
    return answer;
  }

  /// Compares what is subscribed here with what the server has, until both are the same.
  async #resync() {
    try {
      for (;;) {
        const there = new Set(await this.#ask("subscriptions", null));
        const missing = [...this.subscriptions.values()].filter(({ subject }) => !there.has(subject));
        const extra = [...there].filter((subject) => !this.subscriptions.has(subject));
        if (missing.length === 0 && extra.length === 0) break;
        if (missing.length > 0) {
          const wanted = missing.map(({ subject, queue }) => ({ subject, queue }));
          const results = await this.#ask("subscribe", wanted);
          results.forEach((result, at) => result.error && missing[at].end(new ConatError(result.error, result.code)));
        }
        if (extra.length > 0) await this.#ask("unsubscribe", extra.map((subject) => ({ subject })));
      }
      this.isSynced = true;
      this.emit("synced");
    } catch {
      // The connection is gone; the next one begins anew.
    }
  }

  async subscribe(subject, options = {}) {
    const subscription = this.#begin(subject, options);
    try {
      await this.#ask("subscribe", { subject, queue: subscription.queue });
      return subscription;
    } catch (error) {
      subscription.end(error);
      throw error;
    }
  }

  #begin(subject, { queue = random(), mesgLimit, maxWait } = {}) {
    if (this.subscriptions.has(subject)) throw new Error(`subscribed to ${subject} already`);
    const subscription = new Subscription(this, subject, queue, { mesgLimit, maxWait });
    this.subscriptions.set(subject, subscription);
    return subscription;
  }

  get chunkLength() {
    return Math.max(1_000, (this.info?.max_payload ?? 1_000_000) - CHUNK_RESERVE);
  }

  *#chunks(subject, raw, encoding, headers) {
    const id = random();
    const size = this.chunkLength;
    for (let seq = 0, at = 0; at < raw.length || seq === 0; seq += 1, at += size) {
      const done = at + size >= raw.length ? 1 : 0;
      const chunk = [subject, id, seq, done, encoding, raw.subarray(at, at + size)];
      if (done && headers) chunk.push(headers);
      yield chunk;
    }
  }

  #encoded(data, { raw, encoding = 0 }) {
    if (raw !== undefined) return Buffer.from(raw);
    return encoding === 1 ? Buffer.from(JSON.stringify(data)) : pack(data);
  }

  publishSync(subject, data, options = {}) {
    const raw = this.#encoded(data, options);
    for (const chunk of this.#chunks(subject, raw, options.encoding ?? 0, options.headers)) this.socket.emit("publish", chunk);
    return { bytes: raw.length };
  }

  async publish(subject, data, options = {}) {
    await this.signedIn();
    const raw = this.#encoded(data, options);
    const chunks = [...this.#chunks(subject, raw, options.encoding ?? 0, options.headers)];
    const once = async () => {
      const answers = await Promise.all(chunks.map((chunk) => this.#ask("publish", chunk, options.timeout)));
      return Math.max(...answers.map(({ count }) => count));
    };
    let count = await once();
    if (count === 0 && options.waitForInterest) {
      await this.waitForInterest(subject, options.timeout ?? 30_000);
      count = await once();
    }
    return { bytes: raw.length, count };
  }

  async #inbox() {
    this.#inboxes ??= (async () => {
      const inbox = `${this.inboxPrefix}.${random()}`;
      const subscription = await this.subscribe(`${inbox}.*`);
      subscription.on("message", (message) => this.emit(`reply:${message.subject}`, message));
      return inbox;
    })();
    return this.#inboxes;
  }
  #inboxes;

  async request(subject, data, { timeout = 30_000, ...options } = {}) {
    const answers = await this.requestMany(subject, data, { ...options, maxWait: timeout, maxMessages: 1 });
    for await (const answer of answers) return answer;
    throw new ConatError("timeout", 408);
  }

  async requestMany(subject, data, { maxWait, maxMessages = Infinity, headers, ...options } = {}) {
    const reply = `${await this.#inbox()}.${random()}`;
    const queue = new Queue({ mesgLimit: maxMessages, maxWait });
    const hear = (message) => queue.push(message);
    this.on(`reply:${reply}`, hear);
    queue.once("end", () => this.off(`reply:${reply}`, hear));
    const { count } = await this.publish(subject, data, { ...options, headers: { ...headers, "CN-Reply": reply } });
    if (count === 0) {
      queue.end();
      throw new ConatError(`request -- no subscribers matching '${subject}'`, 503);
    }
    return queue;
  }

  interest(subject) {
    return this.#ask("wait-for-interest", { subject, timeout: 0 });
  }

  waitForInterest(subject, timeout = 30_000) {
    return this.#ask("wait-for-interest", { subject, timeout: Math.min(timeout, 90_000) }, timeout + patience);
  }

  cluster() {
    return this.#ask("cluster");
  }

  /// Answers requests `[name, arguments]` with the functions of `implementation`.
  async service(subject, implementation, { queue = "0" } = {}) {
    const requests = await this.subscribe(subject, { queue });
    requests.on("message", async (request) => {
      const [name, args] = request.data;
      try {
        if (typeof implementation[name] !== "function") throw new Error(`${name} not defined`);
        await request.respond(await implementation[name].apply(request, args));
      } catch (error) {
        await request.respond(null, { headers: { error: `${error}` } });
      }
    });
    return requests;
  }

  /// The functions of a service.
  call(subject, options) {
    const invoke = (name) => async (...args) => {
      const answer = await this.request(subject, [name, args], options);
      if (answer.headers?.error) throw new ConatError(answer.headers.error, answer.headers.code);
      return answer.data;
    };
    return new Proxy({}, { get: (_, name) => invoke(name) });
  }

  async close() {
    this.closed = true;
    for (const subscription of [...this.subscriptions.values()]) subscription.close();
    this.socket.disconnect();
  }
}

/// Messages that are iterated over, or heard as the event `message`.
class Queue extends EventEmitter {
  waiting = [];
  ended = false;
  taken = 0;

  constructor({ mesgLimit = Infinity, maxWait } = {}) {
    super();
    this.mesgLimit = mesgLimit;
    this.maxWait = maxWait;
  }

  push(message) {
    if (this.ended) return;
    if (this.listenerCount("message") > 0) this.emit("message", message);
    else this.waiting.push(message);
    this.emit("wake");
  }

  close() {
    this.end();
  }

  end(error) {
    if (this.ended) return;
    this.ended = true;
    this.error = error;
    this.emit("wake");
    this.emit("end");
  }

  async next() {
    while (this.waiting.length === 0) {
      if (this.ended) {
        if (this.error) throw this.error;
        return { done: true };
      }
      let timer;
      await new Promise((resolve) => {
        this.once("wake", resolve);
        if (this.maxWait) {
          timer = setTimeout(() => {
            this.end();
            resolve();
          }, this.maxWait);
        }
      });
      clearTimeout(timer);
    }
    this.taken += 1;
    const value = this.waiting.shift();
    if (this.taken >= this.mesgLimit) {
      this.waiting.length = 0;
      this.close();
    }
    return { value, done: false };
  }

  return() {
    this.end();
    return { done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

class Subscription extends Queue {
  partial = new Map();

  constructor(client, subject, queue, options) {
    super(options);
    Object.assign(this, { client, subject, queue });
    this.hear = ({ subject: concrete, data }) => this.#chunk(concrete, data);
    client.socket.on(subject, this.hear);
    this.once("end", () => {
      client.socket.off(subject, this.hear);
      client.subscriptions.delete(subject);
    });
  }

  #chunk(subject, [id, seq, done, encoding, raw, headers]) {
    const chunks = this.partial.get(id) ?? [];
    if (chunks.length !== seq) {
      this.partial.delete(id);
      this.client.emit("gap", { subject, id, seq });
      return;
    }
    chunks.push(raw);
    if (!done) return this.partial.set(id, chunks);
    this.partial.delete(id);
    const whole = chunks.length === 1 ? raw : Buffer.concat(chunks);
    this.push(new Message(this.client, { subject, encoding, raw: whole, headers, chunks: chunks.length }));
  }

  close() {
    this.end();
    if (this.client.socket.connected) this.client.socket.emit("unsubscribe", { subject: this.subject });
  }

  return() {
    this.close();
    return { done: true };
  }
}

export class Message {
  constructor(client, parts) {
    Object.assign(this, { client, ...parts });
  }

  get data() {
    return this.encoding === 1 ? JSON.parse(this.raw.toString()) : decode(this.raw);
  }

  get reply() {
    return this.headers?.["CN-Reply"];
  }

  async respond(data, options = {}) {
    const nobody = { bytes: 0, count: 0 };
    if (!this.reply) return nobody;
    try {
      return await this.client.publish(this.reply, data, { waitForInterest: true, ...options });
    } catch (error) {
      if (this.client.closed) return nobody;
      throw error;
    }
  }

  respondSync(data, options = {}) {
    if (this.reply) this.client.publishSync(this.reply, data, options);
  }
}
