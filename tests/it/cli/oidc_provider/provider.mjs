// A certified OpenID provider on loopback, for the tests of `pgate login`.
//
// Prints its URL as its first line. Then it reads commands, one a line:
// `approve CODE LOGIN` and `deny CODE` do what a person does in a browser, page
// by page, and answer with `done` or with what went wrong.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.PGATE_TEST_NODE_MODULES}/`);
const { default: Provider } = await import(require.resolve('oidc-provider'));

const people = { ana: ['engineering'], bo: ['engineering', 'dba'] };

const server = createServer();
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'pgate',
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    response_types: ['code'],
    // A native client's, on loopback: any port will do (RFC 8252 section 7.3).
    redirect_uris: ['http://127.0.0.1/login/callback'],
  }],
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
  scopes: ['openid', 'offline_access', 'email', 'groups'],
  claims: { openid: ['sub'], email: ['email'], groups: ['groups'] },
  conformIdTokenClaims: false,
  ttl: { IdToken: Number(process.env.PGATE_TEST_TOKEN_SECONDS ?? 3600) },
  rotateRefreshToken: true,
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  findAccount: async (_ctx, sub) => people[sub] && {
    accountId: sub,
    claims: async () => ({ sub, email: `${sub}@example.com`, groups: people[sub] }),
  },
});
server.on('request', provider.callback());
console.log(issuer);

/** Opens pages and sends their forms until a page has none. */
async function browse(code, answers, stopAt) {
  const cookies = new Map();
  const visit = async (url, form) => {
    const response = await fetch(new URL(url, issuer), {
      method: form ? 'POST' : 'GET',
      body: form && new URLSearchParams(form),
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [name, value] = cookie.split(';', 1)[0].split(/=(.*)/s);
      if (value) cookies.set(name, value); else cookies.delete(name);
    }
    const location = response.headers.get('location');
    if (location) return visit(location);
    return response.text();
  };
  let page = await visit(`/device?user_code=${encodeURIComponent(code)}`);
  for (let step = 0; step < 10; step += 1) {
    const form = page.match(/<form[^>]*action="([^"]*)"[^>]*>/);
    if (!form) return page;
    const fields = {};
    for (const [input] of page.matchAll(/<input[^>]*>/g)) {
      const name = input.match(/name="([^"]*)"/)?.[1];
      if (name) fields[name] = input.match(/value="([^"]*)"/)?.[1] ?? '';
    }
    const action = form[1].replaceAll('&amp;', '&');
    if (stopAt?.(page)) return visit(action, { ...fields, abort: 'yes' });
    page = await visit(action, { ...fields, ...answers });
  }
  return page;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, code, login] = line.split(' ');
  try {
    const page = verb === 'approve'
      ? await browse(code, { user_code: code, confirm: 'yes', login, password: 'any' })
      : await browse(code, { user_code: code }, (page) => page.includes('name="abort"') || page.includes('value="yes" name="abort"'));
    const title = page.match(/<title>([^<]*)<\/title>/)?.[1] ?? page.slice(0, 200);
    console.log(`done: ${title}`);
  } catch (error) {
    console.log(`failed: ${error.message}`);
  }
}
process.exit(0);
