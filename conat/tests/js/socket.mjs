// Sockets over subjects as the predecessor's clients have them, both ends: messages in order and each once, requests
// both ways, keepalive. Written from docs/conat.md.
import { EventEmitter, once } from "node:events";
import { ConatError, pack } from "./client.mjs";
import { random } from "./lib.mjs";

const COMMAND = "CN-SocketCmd";
const SEQUENCE = "CN-SocketSeq";
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/// What both ends do: number, keep, acknowledge, ask for what is missing.
class End extends EventEmitter {
  state = "connecting";
  sent = 0;
  kept = new Map();
  emitted = 0;
  early = new Map();
  resets = 0;

  constructor(client, { maxQueueSize = 1_000 } = {}) {
    super();
    this.setMaxListeners(0);
    this.client = client;
    this.maxQueueSize = maxQueueSize;
  }

  write(data, { headers, raw, encoding = 0 } = {}) {
    if (this.state === "closed") throw new ConatError("the socket is closed", "EPIPE");
    if (this.kept.size >= this.maxQueueSize) throw new ConatError(`WRITE FAILED: socket buffer size ${this.maxQueueSize} exceeded`, "ENOBUFS");
    this.sent += 1;
    const message = { encoding, raw: raw ?? pack(data), headers: { ...headers, [SEQUENCE]: this.sent } };
    this.kept.set(this.sent, message);
    if (this.state === "ready") this.send(message);
  }

  send({ encoding, raw, headers }) {
    this.client.publishSync(this.peer, null, { encoding, raw, headers });
  }

  request(data, { headers, ...options } = {}) {
    return this.client.request(this.peer, data, { headers, ...options });
  }

  requestMany(data, options = {}) {
    return this.client.requestMany(this.peer, data, options);
  }

  command(name, data = null, more = {}, options = {}) {
    return this.client.request(this.peer, data, { timeout: 10_000, waitForInterest: true, ...options, headers: { [COMMAND]: name, ...more } });
  }

  async drained() {
    while (this.kept.size > 0) await new Promise((resolve) => this.once("acknowledged", resolve));
  }

  /// A message of the other end. What cannot be answered because the connection is gone is said again by the other end.
  async hear(message) {
    try {
      await this.#heard(message);
    } catch (error) {
      const isGone = [408, 503].includes(error.code) || /^(socket has been disconnected|operation has timed out)$/.test(error.message);
      if (!isGone) throw error;
      this.emit("unanswered", error);
    }
  }

  async #heard(message) {
    const command = message.headers?.[COMMAND];
    if (command === "socket") return await this.#control(message);
    if (command === "ping") return await message.respond(null);
    if (command === "close") {
      if (message.reply) message.respondSync("closed");
      return this.lost("closed");
    }
    if (message.reply) return void this.emit("request", message);
    const seq = message.headers?.[SEQUENCE];
    if (Number.isInteger(seq)) await this.#arrived(seq, message);
  }

  async #control(message) {
    const { socket } = message.data;
    if (socket.emitted !== undefined) {
      for (const seq of this.kept.keys()) if (seq <= socket.emitted) this.kept.delete(seq);
      this.emit("acknowledged");
      return await message.respond({ emitted: socket.emitted });
    }
    const found = socket.missing.map((seq) => this.kept.get(seq));
    if (found.includes(undefined)) return await message.respond(null, { headers: { error: "nodata" } });
    await message.respond(found);
  }

  async #arrived(seq, message) {
    if (seq <= this.emitted) return;
    this.early.set(seq, message);
    if (seq > this.emitted + 1 && !this.asking) {
      this.asking = true;
      try {
        const missing = [];
        for (let number = this.emitted + 1; number < seq; number += 1) if (!this.early.has(number)) missing.push(number);
        const answer = await this.command("socket", { socket: { missing } });
        if (answer.headers?.error) {
          this.resets += 1;
          return this.lost("nodata");
        }
        const { Message } = await import("./client.mjs");
        for (const { encoding, raw, headers } of answer.data) {
          const number = headers[SEQUENCE];
          if (number > this.emitted) this.early.set(number, new Message(this.client, { encoding, raw: Buffer.from(raw), headers }));
        }
      } finally {
        this.asking = false;
      }
    }
    while (this.early.has(this.emitted + 1)) {
      const next = this.early.get(this.emitted + 1);
      this.early.delete(this.emitted + 1);
      this.emitted += 1;
      const { [SEQUENCE]: _, ...headers } = next.headers;
      this.emit("data", next.data, headers, next);
      const emitted = this.emitted;
      this.command("socket", { socket: { emitted } }).catch((error) => this.emit("unacknowledged", error));
    }
  }
}

export class SocketClient extends End {
  constructor(client, subject, { reconnection = true, keepAlive = 45_000, id = random(), loadBalancer, ...options } = {}) {
    super(client, options);
    Object.assign(this, { subject, reconnection, keepAlive, id, loadBalancer });
    this.own = `${subject}.client.${id}`;
    client.on("disconnected", this.#gone);
    void this.#connect();
  }

  #gone = () => this.lost("disconnected");

  async #connect() {
    while (this.state !== "closed") {
      this.state = "connecting";
      const ending = new AbortController();
      try {
        await this.client.signedIn();
        // Answers arrive when the inbox is subscribed to again.
        if (!this.client.isSynced) await once(this.client, "synced");
        // What was asked on a connection that is gone is not answered any more.
        const gone = once(this.client, "disconnected", { signal: ending.signal });
        const isGone = gone.then(() => Promise.reject(new ConatError("the connection is gone", 503)));
        isGone.catch(() => {});
        await Promise.race([this.#introduce(), isGone]);
        this.state = "ready";
        for (const message of this.kept.values()) this.send(message);
        this.emit("ready");
        this.#ping();
        return;
      } catch (error) {
        this.emit("retry", error);
        if (!this.reconnection) return this.close();
        await sleep(50);
      } finally {
        ending.abort();
      }
    }
  }

  async #introduce() {
    const server = this.loadBalancer ? await this.loadBalancer(this.subject) : (await this.client.request(`${this.subject}.server.status`, null)).data.id;
    this.server = server;
    this.peer = `${this.subject}.server.${server}.${this.id}`;
    if (!this.subscription) {
      this.subscription = await this.client.subscribe(this.own);
      this.subscription.on("message", (message) => void this.hear(message));
      if (this.state === "closed") this.subscription.close();
    }
    const answer = await this.command("connect", null, { id: this.id });
    if (answer.data !== "connected") throw new Error(`${answer.data}`);
  }

  async #ping() {
    clearTimeout(this.timer);
    // Of the connection on which it was asked: another one has its own pings.
    const { info } = this.client;
    try {
      await this.command("ping", null, {}, { timeout: 30_000 });
    } catch {
      if (info === this.client.info) this.lost("no answer to a ping");
      return;
    }
    if (this.state === "ready" && info === this.client.info) this.timer = setTimeout(() => this.#ping(), this.keepAlive);
  }

  lost(why) {
    if (this.state !== "ready") return;
    this.state = "disconnected";
    clearTimeout(this.timer);
    this.emit("disconnected", why);
    if (!this.reconnection) return this.close();
    void sleep(50).then(() => this.#connect());
  }

  close() {
    if (this.state === "closed") return;
    if (this.peer && this.client.connected) {
      this.client.publishSync(this.peer, null, { headers: { [COMMAND]: "close", id: this.id } });
    }
    this.state = "closed";
    clearTimeout(this.timer);
    this.client.off("disconnected", this.#gone);
    this.subscription?.close();
    this.emit("closed");
  }

  async ready() {
    if (this.state !== "ready") await new Promise((resolve) => this.once("ready", resolve));
  }
}

class ServerSocket extends End {
  constructor(server, subject) {
    super(server.client, server.options);
    Object.assign(this, { server, subject });
    const segments = subject.split(".");
    this.id = segments.at(-1);
    this.peer = [...segments.slice(0, -3), "client", this.id].join(".");
    this.state = "ready";
  }

  lost(why) {
    this.close(why);
  }

  close() {
    if (this.state === "closed") return;
    this.state = "closed";
    this.server.sockets.delete(this.subject);
    this.client.publishSync(this.peer, null, { headers: { [COMMAND]: "close" } });
    this.emit("closed");
  }
}

export class SocketServer extends EventEmitter {
  sockets = new Map();

  static async listen(client, subject, { id = random(), ...options } = {}) {
    const server = new SocketServer();
    Object.assign(server, { client, subject, id, options });
    const status = await client.subscribe(`${subject}.server.status`);
    status.on("message", (question) => void question.respond({ id }));
    server.subscription = await client.subscribe(`${subject}.server.${id}.*`);
    server.subscription.on("message", (message) => void server.#hear(message));
    server.status = status;
    return server;
  }

  async #hear(message) {
    const { subject } = message;
    const command = message.headers?.[COMMAND];
    let socket = this.sockets.get(subject);
    if (command === "connect") {
      if (!socket) {
        socket = new ServerSocket(this, subject);
        this.sockets.set(subject, socket);
        await this.client.waitForInterest(socket.peer, 5_000).catch(() => {});
        this.emit("connection", socket);
      }
      return await message.respond("connected");
    }
    if (socket) return await socket.hear(message);
    if (command === "close") return message.respondSync("closed");
    const segments = subject.split(".");
    const peer = [...segments.slice(0, -3), "client", segments.at(-1)].join(".");
    this.client.publishSync(peer, null, { headers: { [COMMAND]: "close" } });
  }

  close() {
    for (const socket of [...this.sockets.values()]) socket.close();
    this.status.close();
    this.subscription.close();
  }
}
