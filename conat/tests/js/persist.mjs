// A client of the storage protocol that begins again whenever its socket ends, and whose change feed has every message
// once and in order all the same. Written from docs/conat.md.
import { ConatError, pack } from "./client.mjs";
import { SocketClient } from "./socket.mjs";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class PersistStream {
  changes = [];
  seen = 0;
  wakes = [];
  closed = false;
  reconnects = -1;

  /// A service that is killed is missed after `keepAlive` or `timeout` milliseconds.
  constructor(client, { subject, storage, changefeed = false, keepAlive = 45_000, timeout = 30_000 }) {
    Object.assign(this, { client, subject, storage, changefeed, keepAlive, timeout });
    this.#open();
  }

  #open() {
    this.reconnects += 1;
    const socket = new SocketClient(this.client, this.subject, {
      reconnection: false,
      keepAlive: this.keepAlive,
      loadBalancer: async (subject) => (await this.client.request(`${subject}.id`, null, { waitForInterest: true })).data,
    });
    this.socket = socket;
    socket.write({ storage: this.storage, changefeed: false });
    socket.on("data", (data, headers) => this.#hear(data, headers));
    socket.once("closed", () => {
      if (this.closed) return;
      void sleep(50).then(() => this.closed || this.#open());
    });
    if (this.changefeed) socket.once("ready", () => void this.#follow(socket));
  }

  #hear(data, headers) {
    if (!headers.error) return this.#take(data);
    this.error = new ConatError(headers.error, headers.code);
    this.#wake();
  }

  /// What is new of a batch; while the feed is being caught up with, batches wait.
  #take(batch) {
    if (this.catching) return void this.catching.push(...batch);
    for (const change of batch) {
      if (change.op === "delete") this.changes.push(change);
      else if (change.seq > this.seen) {
        this.seen = change.seq;
        this.changes.push(change);
      }
    }
    this.#wake();
  }

  #wake() {
    this.onChange?.();
    this.wakes.splice(0).forEach((wake) => wake());
  }

  async #follow(socket) {
    this.catching = [];
    try {
      const begun = await this.#on(socket, "changefeed");
      if (begun.data !== "created") throw new Error(`${begun.data}`);
      const rows = this.seen === 0 && !this.fromStart ? [] : await this.#rows(socket, { start_seq: this.seen + 1 });
      const waited = this.catching;
      this.catching = undefined;
      this.#take(rows);
      this.#take(waited);
      this.following = true;
      this.#wake();
    } catch {
      // Without a feed the socket is of no use; the next one begins anew.
      this.catching = undefined;
      socket.close();
    }
  }

  async #on(socket, cmd, parameters = {}, data = null, options = {}) {
    await socket.ready();
    const answer = await socket.request(data, { timeout: this.timeout, ...options, headers: { cmd, ...parameters } });
    if (answer.headers?.error) throw new ConatError(answer.headers.error, answer.headers.code);
    return answer;
  }

  /// A request, on the socket that there is; those that did not arrive are made again when there is another one.
  async call(cmd, parameters, data, options) {
    for (;;) {
      const socket = this.socket;
      if (this.error) throw this.error;
      try {
        if (socket.state === "closed") throw new ConatError("closed", 503);
        return await Promise.race([this.#on(socket, cmd, parameters, data, options), closing(socket)]);
      } catch (error) {
        if (![408, 503, undefined].includes(error.code) || /^Error: /.test(error.message)) throw error;
        await sleep(20);
      }
    }
  }

  async set({ value, ...parameters }) {
    return (await this.call("set", parameters, value)).data;
  }

  async setMany(items) {
    const packed = items.map(({ value, headers, ...item }) => ({ ...item, messageData: { encoding: 0, raw: pack(value), headers } }));
    return (await this.call("setMany", {}, packed)).data;
  }

  async get(parameters) {
    const answer = await this.call("get", parameters);
    return answer.headers === undefined ? undefined : answer;
  }

  async delete(parameters) {
    return (await this.call("delete", parameters)).data;
  }

  async config(config) {
    return (await this.call("config", { config })).data;
  }

  async inventory() {
    return (await this.call("inventory")).data;
  }

  async #rows(socket, parameters) {
    const answers = await socket.requestMany(null, { maxWait: this.timeout, headers: { cmd: "getAll", ...parameters } });
    const rows = [];
    let seq = 0;
    for await (const answer of answers) {
      if (answer.headers.error) throw new ConatError(answer.headers.error, answer.headers.code);
      if (answer.headers.seq !== seq) throw new ConatError("data has been lost", 503);
      seq += 1;
      if (answer.data === null) return rows;
      rows.push(...answer.data);
    }
    throw new ConatError("getAll has not ended", 503);
  }

  async getAll(parameters = {}) {
    for (;;) {
      const socket = this.socket;
      await Promise.race([socket.ready(), closing(socket).catch(() => {})]);
      try {
        return await Promise.race([this.#rows(socket, parameters), closing(socket)]);
      } catch (error) {
        if (![408, 503, undefined].includes(error.code)) throw error;
        await sleep(20);
      }
    }
  }

  async until(fits) {
    while (!fits(this)) await new Promise((resolve) => this.wakes.push(resolve));
  }

  close() {
    this.closed = true;
    this.socket.close();
  }
}

function closing(socket) {
  return new Promise((_, reject) => {
    const gone = () => reject(new ConatError("the socket has ended", 503));
    if (socket.state === "closed") gone();
    else socket.once("closed", gone);
  });
}
