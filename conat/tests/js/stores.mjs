// What the predecessor's clients build on streams: logs and key-value stores that are there at once and saved behind,
// objects of which each field is written by itself, inventories, tables. Written from docs/conat.md.
import { EventEmitter } from "node:events";
import { decode } from "@msgpack/msgpack";
import { ConatError } from "./client.mjs";
import { random } from "./lib.mjs";
import { PersistStream } from "./persist.mjs";

const TOMBSTONE = "CN-Tombstone";
const TOMBSTONE_TTL = 86_400_000;
const MANY_MAX = 500;
const SAVE_AGAIN = 50;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/// Whose a store is, as subject and path say it.
export function place({ account, project }, name) {
  if (account) return { subject: `persist.account-${account}`, path: `accounts/${account}/${name}` };
  if (project) return { subject: `persist.project-${project}`, path: `projects/${project}/${name}` };
  return { subject: "persist.hub", path: `hub/${name}` };
}

/// A stream without a replica.
function plain(client, { owner, name, ephemeral }) {
  const { subject, path } = place(owner, name);
  return new PersistStream(client, { subject, storage: { path, ephemeral } });
}

/// A replica of a stream in the order of its numbers. `change` tells each row that came or went.
export class CoreStream extends EventEmitter {
  raw = [];
  kv = new Map();
  largest = 0;

  static async open(client, { owner, name, startSeq = 1, config, ephemeral, keepAlive, timeout }) {
    const replica = new CoreStream();
    replica.setMaxListeners(0);
    const { subject, path } = place(owner, name);
    const options = { subject, storage: { path, ephemeral }, changefeed: true, keepAlive, timeout };
    replica.stream = new PersistStream(client, options);
    Object.assign(replica, { startSeq, applied: 0 });
    replica.stream.fromStart = true;
    replica.stream.seen = startSeq - 1;
    replica.stream.onChange = () => replica.#catchUp();
    await replica.stream.until(({ following, error }) => following || error);
    if (replica.stream.error) throw replica.stream.error;
    replica.configuration = await replica.stream.config(config);
    return replica;
  }

  get messages() {
    return this.raw.map(({ value }) => value);
  }

  get length() {
    return this.raw.length;
  }

  #catchUp() {
    const { changes } = this.stream;
    for (; this.applied < changes.length; this.applied += 1) {
      const change = changes[this.applied];
      if (change.op === "delete") this.#leave(change.seqs);
      else this.#enter(change);
    }
    this.emit("caught up");
  }

  #enter(row) {
    this.largest = Math.max(this.largest, row.seq);
    const at = this.raw.findLastIndex(({ seq }) => seq <= row.seq);
    if (this.raw[at]?.seq === row.seq) return;
    const entry = { ...row, value: decode(row.raw) };
    this.raw.splice(at + 1, 0, entry);
    const { key } = row;
    if (key === undefined) return void this.emit("change", { mesg: entry.value, raw: entry });
    const newer = this.raw.some((other) => other.key === key && other.seq > row.seq);
    this.raw = this.raw.filter((other) => other.key !== key || other.seq >= row.seq);
    if (newer) return;
    const prev = this.kv.get(key)?.value;
    const isGone = Boolean(row.headers?.[TOMBSTONE]);
    if (isGone) this.kv.delete(key);
    else this.kv.set(key, entry);
    this.emit("change", { mesg: isGone ? undefined : entry.value, raw: entry, key, prev });
  }

  #leave(seqs) {
    const gone = new Set(seqs);
    const left = this.raw.filter(({ seq }) => gone.has(seq));
    this.raw = this.raw.filter(({ seq }) => !gone.has(seq));
    for (const raw of left) {
      if (this.kv.get(raw.key)?.seq === raw.seq) this.kv.delete(raw.key);
      this.emit("change", { mesg: undefined, raw, key: raw.key, prev: raw.value });
    }
  }

  async publish(value, options = {}) {
    if (value === undefined) throw new Error("stream non-kv publish - mesg must not be 'undefined'");
    return await this.stream.set({ value, ...options });
  }

  async publishMany(items) {
    const results = [];
    for (let at = 0; at < items.length; at += MANY_MAX) results.push(...(await this.stream.setMany(items.slice(at, at + MANY_MAX))));
    return results;
  }

  async setKv(key, value, options = {}) {
    if (value === undefined) return await this.deleteKv(key);
    return await this.stream.set({ key, value, ...options });
  }

  async deleteKv(key) {
    if (!this.kv.has(key)) return undefined;
    return await this.stream.set({ key, value: null, headers: { [TOMBSTONE]: true }, ttl: TOMBSTONE_TTL });
  }

  /// Reads what was before the place at which this replica began.
  async load({ startSeq }) {
    const rows = await this.stream.getAll({ start_seq: startSeq, end_seq: this.startSeq - 1 });
    this.startSeq = startSeq;
    rows.forEach((row) => this.#enter(row));
  }

  async delete({ last_index: lastIndex, key, ...which }) {
    if (lastIndex !== undefined) return await this.stream.delete({ last_seq: this.raw[lastIndex].seq });
    if (key !== undefined) return await this.stream.delete({ seq: this.kv.get(key).seq });
    return await this.stream.delete(which);
  }

  async until(fits) {
    while (!fits(this)) await new Promise((resolve) => this.once("caught up", resolve));
  }

  close() {
    this.stream.close();
  }
}

/// What both structures have that are there at once: something is saved until nothing is unsaved.
class Saved extends EventEmitter {
  constructor(core, { noAutosave = false } = {}) {
    super();
    this.setMaxListeners(0);
    Object.assign(this, { core, noAutosave });
  }

  hasUnsavedChanges() {
    return this.local.size > 0;
  }

  changed() {
    if (!this.noAutosave) void this.save();
  }

  /// Until everything is saved; several who ask at once wait for the same.
  save() {
    this.saving ??= this.#saveAll().finally(() => (this.saving = undefined));
    return this.saving;
  }

  async #saveAll() {
    while (this.local.size > 0 && !this.closed) {
      try {
        await this.saveOnce();
      } catch (error) {
        if (![408, 503].includes(error.code)) throw error;
        await sleep(SAVE_AGAIN);
      }
    }
  }

  async until(fits) {
    await this.core.until(() => fits(this));
  }

  close() {
    this.closed = true;
    this.core.close();
  }
}

/// A log: what is written is there at once, and again if it is not known to have arrived.
export class DStream extends Saved {
  local = new Map();
  echoes = new Map();

  static async open(client, options) {
    const log = new DStream(await CoreStream.open(client, options), options);
    log.core.on("change", ({ mesg, raw }) => {
      log.local.delete(raw.msgID);
      log.echoes.delete(raw.seq);
      log.emit("change", mesg, raw.seq);
      if (log.local.size + log.echoes.size === 0) log.emit("stable");
    });
    return log;
  }

  publish(value, options = {}) {
    if (value === undefined) throw new Error("stream non-kv publish - mesg must not be 'undefined'");
    const id = random();
    this.local.set(id, { value, ...options, msgID: id });
    this.changed();
    return id;
  }

  push(...values) {
    values.forEach((value) => this.publish(value));
  }

  async saveOnce() {
    const items = [...this.local.values()];
    const results = await this.core.publishMany(items);
    results.forEach((result, at) => {
      const item = items[at];
      const isLocal = this.local.delete(item.msgID);
      if (result.code === "reject") this.emit("reject", { err: result.error, mesg: item.value });
      else if (result.error) throw new ConatError(result.error, result.code);
      // Its echo may have come first, after a reconnect without its id.
      else if (isLocal && !this.core.raw.some(({ seq }) => seq === result.seq)) this.echoes.set(result.seq, item);
    });
  }

  getAll() {
    const waiting = [...this.echoes.values(), ...this.local.values()].map(({ value }) => value);
    return [...this.core.messages, ...waiting];
  }

  get length() {
    return this.getAll().length;
  }

  seq(at) {
    return this.core.raw[at]?.seq;
  }

  time(at) {
    return this.core.raw[at]?.time;
  }

  headers(at) {
    return this.core.raw[at]?.headers;
  }
}

/// A key-value store: what is written is there at once, and merged with what others write meanwhile.
export class DKV extends Saved {
  local = new Map();

  static async open(client, { merge, config, ...options }) {
    const core = await CoreStream.open(client, { ...options, config: { allow_msg_ttl: true, ...config } });
    const store = new DKV(core, options);
    store.merge = merge;
    core.on("change", ({ mesg, raw, key, prev }) => store.#told(key, mesg, prev, raw));
    return store;
  }

  #told(key, remote, prev) {
    if (this.local.has(key)) {
      const { value: local } = this.local.get(key);
      const isOwn = equal(local, remote);
      const merged = isOwn || local === undefined || !this.merge ? local : (this.merge({ key, prev, local, remote }) ?? local);
      if (isOwn || equal(merged, remote)) this.local.delete(key);
      else if (merged !== local) this.set(key, merged);
    }
    this.emit("change", { key, value: remote, prev });
    if (this.local.size === 0) this.emit("stable");
  }

  set(key, value, { headers } = {}) {
    this.local.set(key, { value, headers });
    this.changed();
  }

  setMany(object) {
    for (const [key, value] of Object.entries(object)) this.local.set(key, { value });
    this.changed();
  }

  get(key) {
    return this.local.has(key) ? this.local.get(key).value : this.core.kv.get(key)?.value;
  }

  has(key) {
    return this.get(key) !== undefined;
  }

  delete(key) {
    this.set(key, undefined);
  }

  clear() {
    for (const key of this.keys()) this.delete(key);
  }

  keys() {
    return [...new Set([...this.core.kv.keys(), ...this.local.keys()])].filter((key) => this.has(key));
  }

  getAll() {
    return Object.fromEntries(this.keys().map((key) => [key, this.get(key)]));
  }

  get length() {
    return this.keys().length;
  }

  seq(key) {
    return this.core.kv.get(key)?.seq;
  }

  time(key) {
    return this.core.kv.get(key)?.time;
  }

  headers(key) {
    return this.core.kv.get(key)?.headers;
  }

  /// Once: removals one by one, then everything that is written, each under the condition that nobody was faster if
  /// what both wrote can be merged.
  async saveOnce() {
    const entries = [...this.local];
    for (const [key, { value }] of entries) {
      if (value !== undefined) continue;
      await this.core.deleteKv(key);
      if (!this.core.kv.has(key) && this.local.get(key)?.value === undefined) this.local.delete(key);
    }
    const sets = entries.filter(([, { value }]) => value !== undefined);
    const items = sets.map(([key, { value, headers }]) => ({
      key,
      value,
      headers,
      ...(this.merge && this.core.kv.has(key) ? { previousSeq: this.seq(key) } : {}),
    }));
    const results = items.length > 0 ? await this.core.publishMany(items) : [];
    results.forEach(({ code, error }, at) => {
      const [key, entry] = sets[at];
      if (code === "reject") {
        if (this.local.get(key) === entry) this.local.delete(key);
        this.emit("reject", { key, value: entry.value });
      } else if (error && code !== "wrong-last-sequence") throw new ConatError(error, code);
    });
    // Everything that was stored is told, and what was refused will be by the one who was faster.
    const largest = Math.max(0, ...results.map(({ seq }) => seq ?? 0));
    await this.core.until(({ largest: told }) => told >= largest);
    if (this.local.size > 0) await sleep(SAVE_AGAIN);
  }
}

/// Objects, of which each field is written by itself.
export class DKO extends EventEmitter {
  static async open(client, { name, ...options }) {
    const store = new DKO();
    store.dkv = await DKV.open(client, { ...options, name: `__dko__${name}` });
    store.dkv.on("change", ({ key, value }) => {
      const [object, field] = parts(key);
      if (field !== undefined) store.emit("change", { key: object, field, value });
      else if (value === undefined) store.emit("change", { key });
    });
    return store;
  }

  get(key) {
    const fields = this.dkv.get(key);
    if (fields === undefined) return undefined;
    return Object.fromEntries(fields.map((field) => [field, this.dkv.get(JSON.stringify([key, field]))]));
  }

  /// Writes the fields that are different.
  set(key, object) {
    if (object === null) return this.delete(key);
    if (typeof object !== "object") throw new Error("values must be objects");
    const current = this.get(key) ?? {};
    for (const [field, value] of Object.entries(object)) {
      if (!equal(current[field], value)) this.dkv.set(JSON.stringify([key, field]), value);
    }
    const fields = [...new Set([...Object.keys(current), ...Object.keys(object)])].sort();
    if (!equal(this.dkv.get(key), fields)) this.dkv.set(key, fields);
  }

  delete(key) {
    for (const field of this.dkv.get(key) ?? []) this.dkv.delete(JSON.stringify([key, field]));
    this.dkv.delete(key);
  }

  getAll() {
    const keys = this.dkv.keys().filter((key) => parts(key)[1] === undefined);
    return Object.fromEntries(keys.map((key) => [key, this.get(key)]));
  }

  save() {
    return this.dkv.save();
  }

  until(fits) {
    return this.dkv.until(() => fits(this));
  }

  close() {
    this.dkv.close();
  }
}

/// `[object, field]` of the key of a field, `[key]` of another one.
function parts(key) {
  if (!key.startsWith("[")) return [key];
  return JSON.parse(key);
}

/// A key-value store without a replica.
export class AKV {
  constructor(client, options) {
    this.stream = plain(client, options);
  }

  async getMessage(key) {
    const found = await this.stream.get({ key });
    return found?.headers?.[TOMBSTONE] ? undefined : found;
  }

  async get(key) {
    return (await this.getMessage(key))?.data;
  }

  async headers(key) {
    return (await this.getMessage(key))?.headers;
  }

  async set(key, value, options = {}) {
    return await this.stream.set({ key, value, ...options });
  }

  async delete(key) {
    return await this.stream.set({ key, value: null, headers: { [TOMBSTONE]: true } });
  }

  async keys() {
    return (await this.stream.call("keys")).data;
  }

  close() {
    this.stream.close();
  }
}

/// A log without a replica.
export class AStream {
  constructor(client, options) {
    Object.assign(this, { client, options });
    this.stream = plain(client, options);
  }

  async get(which) {
    return (await this.stream.get(typeof which === "number" ? { seq: which } : { key: which }))?.data;
  }

  async publish(value, options = {}) {
    return await this.stream.set({ value, ...options });
  }

  async push(...values) {
    return await this.stream.setMany(values.map((value) => ({ value })));
  }

  async *getAll(which) {
    for (const { raw, ...row } of await this.stream.getAll(which)) yield { ...row, mesg: decode(raw) };
  }

  async delete(which) {
    return await this.stream.delete(which);
  }

  /// What happens from now on; each call has its own feed.
  async changefeed() {
    const { subject, path } = place(this.options.owner, this.options.name);
    const feed = new PersistStream(this.client, { subject, storage: { path }, changefeed: true });
    await feed.until(({ following }) => following);
    return (async function* () {
      try {
        for (let at = 0; ; at += 1) {
          await feed.until(({ changes }) => changes.length > at);
          const { op = "set", raw, ...change } = feed.changes[at];
          yield op === "set" ? { op, ...change, mesg: decode(raw) } : { op, ...change };
        }
      } finally {
        feed.close();
      }
    })();
  }

  close() {
    this.stream.close();
  }
}

/// What stores an owner has, by name and type.
export class Inventory {
  static async open(client, owner) {
    const inventory = new Inventory();
    inventory.dkv = await DKV.open(client, { owner, name: "CoCalc-Inventory" });
    return inventory;
  }

  async update({ name, type, desc }, core) {
    const { bytes, count, limits, seq } = await core.stream.inventory();
    const key = JSON.stringify({ name, type });
    const { created = Date.now() } = this.dkv.get(key) ?? {};
    this.dkv.set(key, { desc, last: Date.now(), created, bytes, count, limits, seq });
    await this.dkv.save();
  }

  get(of) {
    return this.dkv.get(JSON.stringify(of));
  }

  close() {
    this.dkv.close();
  }
}

/// A word to everybody who listens, which is not kept.
export class PubSub extends EventEmitter {
  static async open(client, { project, name, path }) {
    const hub = new PubSub();
    const at = path === undefined ? "-" : Buffer.from(path).toString("base64");
    Object.assign(hub, { client, subject: `project.${project}.-.pubsub-${name}.${at}` });
    hub.subscription = await client.subscribe(hub.subject);
    hub.subscription.on("message", ({ data }) => hub.emit("change", data));
    return hub;
  }

  set(data) {
    this.client.publishSync(this.subject, data);
  }

  close() {
    this.subscription.close();
  }
}

/// Rows of a table by their primary keys: as wholes, by their fields, or as a log in which rows never change.
export class SyncTable extends EventEmitter {
  static async open(client, { owner, table, id, keys, form }) {
    const rows = new SyncTable();
    const options = { owner, name: `${table}:${id}` };
    Object.assign(rows, { keys, form });
    const Store = { atomic: DKV, fields: DKO, log: DStream }[form];
    rows.store = await Store.open(client, options);
    rows.store.on("change", (change) => rows.emit("change", [form === "log" ? rows.key(change) : change.key]));
    return rows;
  }

  key(row) {
    const values = this.keys.map((name) => row[name]);
    return values.length === 1 ? `${values[0]}` : JSON.stringify(values);
  }

  set(row) {
    const key = this.key(row);
    if (this.form !== "log") return this.store.set(key, row);
    if (this.get(key)) throw new Error(`object ${key} cannot be changed`);
    this.store.publish(row);
  }

  get(key) {
    if (this.form !== "log") return this.store.get(key);
    return this.store.getAll().find((row) => this.key(row) === key);
  }

  async wait(fits) {
    await this.store.until(() => fits(this));
  }

  close() {
    this.store.close();
  }
}
