// A real OpenID provider for tests, which also speaks plain OAuth 2.0, with an API as that of GitHub beside it.
//
//   node provider.mjs REDIRECT_URI…       prints `port N` when it listens, and ends when its input does
//
// Whoever is at its door is who the cookie `as` says; people agree to everything, except for `nobody`.

import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const redirects = process.argv.slice(2);

// Whoever has started this reads the port and no more; what else the library says is lost.
process.stdout.on('error', () => {});
process.stderr.on('error', () => {});

const people = {
  ada: { given_name: 'Ada', family_name: 'Lovelace', email: 'ada@example.org', email_verified: true },
  bob: { name: 'Bob B Builder', email: 'bob@example.net', email_verified: false },
  eve: { given_name: 'Eve', family_name: 'Evil', email: 'ada@example.org', email_verified: false },
  uni: { given_name: 'Una', family_name: 'Iversity', email: 'una@uni.example', email_verified: true },
  mallory: { given_name: 'Mal', family_name: 'Lory', email: 'una@uni.example', email_verified: false },
  silent: { given_name: 'Una', family_name: 'Iversity', email: 'una@uni.example' },
  mute: {},
};

const emails = {
  ada: [
    { email: 'old@example.org', verified: true, primary: false },
    { email: 'ada@example.org', verified: true, primary: true },
  ],
  bob: [{ email: 'bob@example.net', verified: false, primary: true }],
};

const client = (client_id, token_endpoint_auth_method) => ({
  client_id,
  client_secret: `${client_id}-secret`,
  redirect_uris: redirects,
  token_endpoint_auth_method,
});

let provider;
const server = createServer((request, response) => serve(request, response));
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [client('hub', 'client_secret_basic'), client('other', 'client_secret_basic'), client('plain', 'client_secret_post')],
    scopes: ['openid', 'user:email'],
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name', 'given_name', 'family_name'],
    },
    pkce: { required: () => true },
    cookies: { keys: ['of a test'] },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
  });
  provider.on('server_error', (_context, error) => console.error(error));
  console.log('port', port);
});

const handle = () => (handle.callback ??= provider.callback());

async function serve(request, response) {
  try {
    if (request.url.startsWith('/interaction/')) await interact(request, response);
    else if (request.url.startsWith('/api/')) await api(request, response);
    else handle()(request, response);
  } catch (error) {
    console.error(error);
    response.writeHead(500).end(String(error));
  }
}

async function interact(request, response) {
  const who = /(?:^|; )as=([a-z]+)/.exec(request.headers.cookie ?? '')?.[1];
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  let result;
  if (!who || who === 'nobody') {
    result = { error: 'access_denied', error_description: 'nobody wants <b>this</b>' };
  } else if (prompt.name === 'login') {
    result = { login: { accountId: who, remember: false } };
  } else {
    const { missingOIDCScope, missingOIDCClaims } = prompt.details;
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
    if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

async function api(request, response) {
  const bearer = request.headers.authorization?.replace('Bearer ', '');
  const token = bearer && (await provider.AccessToken.find(bearer));
  if (!token) return response.writeHead(401).end('{}');
  const { accountId } = token;
  const answer =
    request.url === '/api/user'
      ? { id: Object.keys(people).indexOf(accountId) + 1, login: accountId, name: `${accountId} of GitHub`, email: null }
      : (emails[accountId] ?? []);
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
}

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
