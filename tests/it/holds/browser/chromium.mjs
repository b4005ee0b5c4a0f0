// Plays a reviewer in a real browser, by its debugging pipe: opens a hold's address, picks
// who to be at the issuer, writes a comment, presses a button, and prints what it then sees.
// Usage: node chromium.mjs BROWSER PROFILE URL EMAIL VERB COMMENT
import { spawn } from 'node:child_process';

const [browser, profile, url, email, verb, comment] = process.argv.slice(2);
const child = spawn(browser, [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
  '--disable-background-networking', '--no-proxy-server', `--user-data-dir=${profile}`,
  '--remote-debugging-pipe', 'about:blank',
], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
process.on('exit', () => child.kill('SIGKILL'));

const answers = new Map();
const complaints = [];
let number = 0;
let rest = '';
child.stdio[4].setEncoding('utf8').on('data', (data) => {
  const messages = (rest + data).split('\0');
  rest = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) {
    answers.get(message.id)?.(message);
    if (message.method === 'Log.entryAdded') complaints.push(message.params.entry.text);
  }
});
function ask(method, params = {}, sessionId = undefined) {
  number += 1;
  const id = number;
  child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  return new Promise((done, failed) => {
    answers.set(id, ({ result, error }) => (error ? failed(new Error(error.message)) : done(result)));
  });
}

const { targetId } = await ask('Target.createTarget', { url: 'about:blank' });
const { sessionId } = await ask('Target.attachToTarget', { targetId, flatten: true });
await ask('Log.enable', {}, sessionId);
await ask('Page.navigate', { url }, sessionId);

/** Looks until the page answers with something. */
async function until(expression) {
  const end = Date.now() + 30_000;
  for (;;) {
    const answer = await ask('Runtime.evaluate', { expression, returnByValue: true }, sessionId)
      .catch(() => undefined);
    if (answer?.result?.value) return answer.result.value;
    if (Date.now() > end) {
      const shown = await ask('Runtime.evaluate', {
        expression: 'location.href + "\\n" + document.body.innerText', returnByValue: true,
      }, sessionId);
      console.log(`never: ${expression}\n${shown.result.value}\n${complaints.join('\n')}`);
      process.exit(1);
    }
    await new Promise((wake) => setTimeout(wake, 50));
  }
}
const pressed = (selector) =>
  `(() => { const it = document.querySelector(${JSON.stringify(selector)}); it?.click(); return !!it })()`;

await until(pressed(`button[value="${email}"]`));
await until(`location.href === ${JSON.stringify(url)} && !!document.querySelector('textarea')`);
// The one style sheet is let in, and nothing else is missed.
await until("getComputedStyle(document.querySelector('dl')).display === 'grid'");
await until(`document.querySelector('textarea').value = ${JSON.stringify(comment)}`);
await until(pressed(`button[value="${verb}"]`));
console.log(await until("!document.querySelector('textarea') && document.body.innerText"));
const policy = complaints.filter((text) => /Content Security Policy|Refused to/.test(text));
if (policy.length) console.log(policy.join('\n'));
process.exit(policy.length ? 1 : 0);
