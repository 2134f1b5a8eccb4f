// WebSocket messages as they are on the wire, compared with those that were captured from the predecessor.
import { createRequire } from "node:module";
import { assert, run } from "./lib.mjs";

const require = createRequire(import.meta.url);
const WebSocket = require(require.resolve("ws", { paths: [require.resolve("engine.io-client", { paths: [require.resolve("socket.io-client")] })] }));
const [address] = process.argv.slice(2);

/// Says a list of messages and returns what comes back, up to as many messages.
async function converse(said, count) {
  const url = `${address.replace("http", "ws")}/conat/?EIO=4&transport=websocket`;
  const socket = new WebSocket(url);
  const heard = [];
  await new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("message", (data, binary) => {
      heard.push(binary ? data : data.toString());
      if (heard.length === 1) said.forEach((message) => socket.send(message));
      if (heard.length === count) resolve();
    });
    socket.on("close", () => reject(new Error(`closed after ${JSON.stringify(heard)}`)));
  });
  socket.removeAllListeners("close");
  socket.close();
  return heard;
}

await run({
  async handshake() {
    const [open, connected, info] = await converse(["40"], 3);
    const { sid, ...rest } = JSON.parse(open.slice(1));
    assert.equal(open[0], "0");
    assert.ok(sid.length >= 20);
    assert.deepEqual(rest, { upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 8_000_000 });
    assert.match(connected, /^40\{"sid":"[\w-]{20,}"\}$/);
    assert.match(info, /^420\["info",\{"max_payload":8000000,"id":"[^"]+","user":null\}\]$/);
  },

  async "the captured conversation"() {
    const payload = Buffer.from("83a16101a164d6ff00000000a3627566c4026869", "hex");
    const said = [
      "40",
      "430[]",
      '420["subscribe",{"subject":"_INBOX.iDEVKBumYg.*","queue":"UjcXNEHQt5"}]',
      '421["subscribe",{"subject":"foo.*","queue":"1"}]',
      '451-["publish",["foo.a","Nbc9jcovcR",0,1,0,{"_placeholder":true,"num":0}]]',
      payload,
      '451-2["publish",["foo.a","leqnaxcOpt",0,1,0,{"_placeholder":true,"num":0},{"my":{"h":1}}]]',
      payload,
      '426["subscribe",{"subject":"a..b","queue":"x"}]',
      '429["wait-for-interest",{"subject":"nobody.z","timeout":0}]',
      '4212["subscriptions",null]',
      '4213["cluster"]',
      '4214["subscribe",[{"subject":"foo.*","queue":"q2"},{"subject":"bar","queue":"1"}]]',
      '4215["unsubscribe",[{"subject":"bar"}]]',
    ];
    const heard = await converse(said, 3 + 13);
    // The names of messages are of no meaning, and ours differ.
    const plain = (text) => (typeof text === "string" ? text.replace(/"data":\["[^"]{10}"/, '"data":["ID"') : text);
    const delivery = '451-["foo.*",{"subject":"foo.a","data":["ID",0,1,0,{"_placeholder":true,"num":0}';
    const found = heard.slice(3).map(plain);
    // The answer about interest may come after those that follow, as it may in the original.
    for (const expected of [
      '430[{"status":"added"}]',
      '431[{"status":"added"}]',
      `${delivery}]}]`,
      payload,
      `${delivery},{"my":{"h":1}}]}]`,
      payload,
      '432[{"count":1}]',
      '436[{"error":"Error: invalid subject"}]',
      "439[false]",
      '4312[["_INBOX.iDEVKBumYg.*","foo.*"]]',
      `4313[["${address}"]]`,
      '4314[[{"status":"already-added"},{"status":"added"}]]',
      "4315[[null]]",
    ]) {
      const at = found.findIndex((said) => (Buffer.isBuffer(expected) && Buffer.isBuffer(said) ? expected.equals(said) : said === expected));
      assert.ok(at >= 0, `${expected} is missing in ${JSON.stringify(found)}`);
      found.splice(at, 1);
    }
    assert.deepEqual(found, []);
    const order = heard.slice(3).map(plain);
    assert.ok(order.indexOf('432[{"count":1}]') > order.indexOf(`${delivery},{"my":{"h":1}}]}]`));
  },

  async "a reply subject travels as a header"() {
    const headers = '{"CN-Reply":"_INBOX.iDEVKBumYg.m2B9f5Frp3"}';
    const heard = await converse(
      [
        "40",
        '421["subscribe",{"subject":"zzz","queue":"1"}]',
        `451-16["publish",["zzz","B5yylH5swy",0,1,0,{"_placeholder":true,"num":0},${headers}]]`,
        Buffer.from("c0", "hex"),
      ],
      7,
    );
    const delivery = heard.find((said) => typeof said === "string" && said.startsWith('451-["zzz"'));
    assert.ok(delivery.endsWith(`{"_placeholder":true,"num":0},${headers}]}]`), delivery);
    assert.ok(heard.includes('4316[{"count":1}]'));
  },

  async "text where bytes are due ends the connection"() {
    const wrong = ["40", '451-["publish",["a","b",0,1,0,{"_placeholder":true,"num":0}]]', "3"];
    await assert.rejects(converse(wrong, 99), /closed/);
  },

  async "what is no packet ends the connection"() {
    for (const wrong of ["", "9", "40/admin,", "42{", '4511-["publish"]', "4"]) {
      await assert.rejects(converse(["40", wrong], 99), /closed/, wrong);
    }
  },

  async "other transports and versions are refused"() {
    const get = async (path) => {
      const response = await fetch(`${address}${path}`);
      return [response.status, await response.text()];
    };
    assert.deepEqual(await get("/conat/?EIO=4&transport=polling"), [400, '{"code":0,"message":"Transport unknown"}']);
    assert.deepEqual(await get("/conat/?EIO=3&transport=websocket"), [400, '{"code":5,"message":"Unsupported protocol version"}']);
    assert.equal((await get("/"))[0], 404);
  },
});
