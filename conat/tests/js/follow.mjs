// A query that is followed and a question to a model, as the predecessor's clients make them. Written from docs/conat.md.
import { ConatError } from "./client.mjs";
import { assert } from "./lib.mjs";
import { SocketClient } from "./socket.mjs";

/// Follows a query: everything that is there first, then each change, until whoever asks ends it or the hub does.
export class Changefeed {
  static open(client, subject, query, options) {
    const feed = new Changefeed();
    feed.waiting = [];
    feed.socket = new SocketClient(client, subject, { reconnection: false, keepAlive: 120_000 });
    feed.socket.on("data", (data) => {
      feed.waiting.push(data);
      feed.wake?.();
    });
    feed.socket.once("closed", () => feed.wake?.());
    feed.socket.write({ query, options });
    return feed;
  }

  /// The next thing that is told; nothing when the socket has ended.
  async next() {
    while (this.waiting.length === 0) {
      if (this.socket.state === "closed") return undefined;
      await new Promise((resolve) => (this.wake = resolve));
    }
    const { update, error, code } = this.waiting.shift();
    if (error) throw new ConatError(error, code);
    return update;
  }

  close() {
    this.socket.close();
  }
}

/// What a model answers: pieces that are numbered, and nothing at the end.
export async function* ask(client, subject, question) {
  const answers = await client.requestMany(subject, question, { maxWait: 60_000 });
  let seq = 0;
  for await (const { data } of answers) {
    if (data === null) return;
    assert.equal(data.seq, seq, "pieces are numbered");
    seq += 1;
    if (data.error) throw new ConatError(data.error, data.code);
    yield data.text;
  }
  throw new Error("the answer has no end");
}
