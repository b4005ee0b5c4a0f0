// Plays a person at an OpenID provider's pages: opens a URL and sends every form
// that comes, until there is none. Usage: node person.mjs URL LOGIN
const [start, login] = process.argv.slice(2);
const cookies = new Map();

async function open(url, options = {}) {
  for (let redirects = 0; redirects < 20; redirects += 1) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const headers = { ...options.headers, cookie };
    const answer = await fetch(url, { ...options, headers, redirect: 'manual' });
    for (const line of answer.headers.getSetCookie()) {
      const [pair] = line.split(';');
      const at = pair.indexOf('=');
      cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    const location = answer.headers.get('location');
    if (!location) return { url, status: answer.status, text: await answer.text() };
    url = new URL(location, url).href;
    options = {};
  }
  throw new Error('redirected for ever');
}

function attribute(tag, name) {
  const found = new RegExp(`\\b${name}="([^"]*)"`).exec(tag);
  return found ? found[1].replaceAll('&quot;', '"').replaceAll('&amp;', '&') : undefined;
}

let page = await open(start);
for (let forms = 0; forms < 10; forms += 1) {
  const form = /<form[^>]*>[^]*?<\/form>/.exec(page.text)?.[0];
  if (!form) break;
  const fields = new URLSearchParams();
  for (const [input] of form.matchAll(/<input[^>]*>/g)) {
    const name = attribute(input, 'name');
    if (name) fields.set(name, attribute(input, 'value') ?? (name === 'login' ? login : 'any'));
  }
  for (const [button] of form.matchAll(/<button[^>]*>/g)) {
    const name = attribute(button, 'name');
    if (name && name !== 'abort') fields.set(name, attribute(button, 'value') ?? '');
  }
  const action = /<form[^>]*>/.exec(form)[0];
  const method = (attribute(action, 'method') ?? 'get').toUpperCase();
  if (method !== 'POST') throw new Error(`a form that is no POST: ${action}`);
  page = await open(new URL(attribute(action, 'action') ?? page.url, page.url).href, {
    method,
    body: fields.toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
}
const heading = /<h1>([^<]*)<\/h1>/.exec(page.text)?.[1] ?? '';
console.log(`${page.status} ${heading.trim()}`);
process.exit(page.status === 200 && /success/i.test(heading) ? 0 : 1);
