// People of a site, who sign up and in over HTTP and connect with their cookies. The variable SITE says where its pages
// are.
import { Client } from "./client.mjs";
import { assert } from "./lib.mjs";

const site = process.env.SITE;
const password = "analytical-engine-7";

export async function auth(name, body, cookie = "") {
  const answer = await fetch(`${site}/api/v2/auth/${name}`, {
    method: "POST",
    headers: { "content-type": "application/json", cookie },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  assert.equal(answer.status, 200, `${name}: ${text}`);
  const session = answer.headers.getSetCookie().find((cookie) => cookie.startsWith("remember_me="));
  return { answer: JSON.parse(text), cookie: session?.split(";")[0] };
}

const opened = [];
/// Somebody with an account and a session of it.
export class Person {
  static number = 0;

  static async signUp() {
    const name = `person${(Person.number += 1)}-${Date.now()}`;
    const person = { email: `${name}@example.org`, password, firstName: name, lastName: "Test" };
    const { answer, cookie } = await auth("sign-up", person);
    return Object.assign(new Person(), { email: person.email, id: answer.account_id, cookie });
  }

  async signIn() {
    return (await auth("sign-in", { email: this.email, password })).cookie;
  }

  async client(cookie = this.cookie, options = {}) {
    const inboxPrefix = `_INBOX.account-${this.id}`;
    const client = new Client({ inboxPrefix, extraHeaders: { Cookie: cookie }, ...options });
    opened.push(client);
    assert.deepEqual((await client.signedIn()).user, { account_id: this.id });
    return client;
  }

  /// Calls a function of the hub.
  async call(client, name, ...args) {
    const { data } = await client.request(`hub.account.${this.id}.api`, { name, args }, { waitForInterest: true });
    if (data?.error) throw new Error(data.error);
    return data;
  }
}

/// Ends all of their clients.
export const close = () => Promise.all(opened.splice(0).map((client) => client.close()));
