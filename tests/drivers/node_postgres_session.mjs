// node-postgres under the role readonly: everything below must hold, or this exits 1.
import assert from 'node:assert/strict';
import pg from 'pg';

const client = new pg.Client();
await client.connect();

// Clean tables: simple and extended protocol, named statements.
const simple = await client.query('SELECT count(*)::int AS many FROM orders');
assert.equal(simple.rows[0].many, 20000);
const several = await client.query('SELECT 1 AS one; SELECT 2 AS two');
assert.deepEqual(several.map((result) => result.rows[0]), [{ one: 1 }, { two: 2 }]);
const one = await client.query('SELECT id, total, lines, placed_at FROM orders WHERE id = $1', [1]);
assert.equal(one.rows[0].id, '1');
assert.match(one.rows[0].lines[0].sku, /^SKU-/);
assert.ok(one.rows[0].placed_at instanceof Date);
for (let number = 1; number <= 5; number += 1) {
  const named = { name: 'by-id', text: 'SELECT id FROM orders WHERE id = $1', values: [number] };
  assert.equal((await client.query(named)).rows[0].id, String(number));
}

// Queries sent at once are answered in order.
const answers = await Promise.all([1, 2, 3, 4].map((n) => client.query('SELECT $1::int AS n', [n])));
assert.deepEqual(answers.map((answer) => answer.rows[0].n), [1, 2, 3, 4]);

// Masked tables.
for (let run = 0; run < 3; run += 1) {
  const masked = await client.query({
    name: 'masked',
    text: 'SELECT name, email, ssn, birth_date FROM customers WHERE id = $1',
    values: [5],
  });
  assert.match(masked.rows[0].email, /^.\*\*\*@/);
  assert.match(masked.rows[0].ssn, /^\*+/);
}

// Refusals, and the connection lives on.
for (const text of [
  'DELETE FROM orders WHERE id = $1',
  'SELECT secret FROM api_keys WHERE id = $1',
  'SELECT password_hash FROM customers WHERE id = $1',
]) {
  await assert.rejects(client.query(text, [1]), (error) => error.code === '42501' && Boolean(error.detail));
}
assert.equal((await client.query('SELECT 1 AS one')).rows[0].one, 1);

await client.end();
console.log('node-postgres: all as it should be');
