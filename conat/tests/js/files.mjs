// Files and functions of a project that runs elsewhere, as the predecessor's clients use them. Run by
// server/tests/cli/conat.rs; the variable PROJECT says which project. Written from docs/project.md.
import { createHash, randomBytes } from "node:crypto";
import { Client, ConatError } from "./client.mjs";
import { assert, random, run } from "./lib.mjs";

const place = `project.${process.env.PROJECT}.0`;
const CHUNK_LEN = 4_194_304;
const WAIT = 60_000;
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

/// Chunks with numbers from 1, as they come; a gap and a missing end are errors.
async function* read(client, path, name = "") {
  const answers = await client.requestMany(`${place}.files:read${name}.-`, { path }, { maxWait: WAIT, waitForInterest: true });
  let seq = 0;
  for await (const { data, headers } of answers) {
    if (headers?.error) throw new ConatError(headers.error);
    if (headers?.done) return;
    if (headers?.seq !== seq + 1) throw new ConatError(`lost data: seq=${seq}, headers.seq=${headers?.seq}`);
    seq += 1;
    yield Buffer.from(data);
  }
  throw new ConatError("the file is truncated");
}

async function readFile(client, path) {
  const chunks = [];
  for await (const chunk of read(client, path)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/// Offers the bytes under a name of their own, and has the project fetch them.
async function writeFile(client, path, bytes) {
  const name = random();
  const requests = await client.subscribe(`${place}.files:read${name}.-`, { queue: "0" });
  requests.on("message", async (request) => {
    let seq = 0;
    for (let at = 0; at < bytes.length; at += CHUNK_LEN) {
      const { count } = await request.respond(bytes.subarray(at, at + CHUNK_LEN), { headers: { seq: (seq += 1) } });
      assert.ok(count > 0, "receiver is gone");
    }
    await request.respond(null, { headers: { done: true } });
  });
  const { data } = await client.request(`${place}.files:write.-`, { name, path, maxWait: WAIT }, { timeout: WAIT });
  requests.close();
  if (data.error) throw new ConatError(data.error);
  return data;
}

await run({
  async "files of several sizes, there and back"() {
    const client = new Client();
    for (const size of [0, 1, CHUNK_LEN, 9_500_000]) {
      const bytes = randomBytes(size);
      const { status, bytes: written } = await writeFile(client, `notes/${size}.bin`, bytes);
      assert.deepEqual([status, written], ["success", size]);
      const found = await readFile(client, `notes/${size}.bin`);
      assert.equal(digest(found), digest(bytes), `${size} bytes`);
    }
    await client.close();
  },

  async "several readers of a file at once"() {
    const clients = [new Client(), new Client(), new Client()];
    const bytes = randomBytes(3_000_000);
    await writeFile(clients[0], "shared.bin", bytes);
    const found = await Promise.all(clients.map((client) => readFile(client, "shared.bin")));
    for (const each of found) assert.equal(digest(each), digest(bytes));
    await Promise.all(clients.map((client) => client.close()));
  },

  async "a file that there is not"() {
    const client = new Client();
    await assert.rejects(readFile(client, "nothing.txt"), (error) => error instanceof ConatError && /nothing\.txt/.test(error.message));
    await assert.rejects(writeFile(client, "", Buffer.from("x")), ConatError);
    await client.close();
  },

  async "functions of the project"() {
    const client = new Client();
    const call = async (name, ...args) => (await client.request(`${place}.api.-`, { name, args }, { waitForInterest: true })).data;
    assert.equal((await call("system.exec", { command: "echo hello" })).stdout, "hello\n");
    await writeFile(client, "listed.txt", Buffer.from("x"));
    assert.ok((await call("system.listing", { path: "" })).some(({ name }) => name === "listed.txt"));
    assert.match((await call("system.dance")).error, /^Error: /);
    await client.close();
  },
});
