// node-postgres as an application uses it. Argument: a connection URL. Ends with "ok", or with what went wrong.
// The folder with node_modules is told in NODE_PATH.
'use strict';

const assert = require('node:assert/strict');
const { Client, Pool } = require('pg');

const connectionString = process.argv[2];

async function withClient(work) {
  const client = new Client({ connectionString });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

async function failsWith(code, work) {
  await assert.rejects(work, (error) => {
    assert.equal(error.code, code, String(error));
    return true;
  });
}

const behaviours = {
  async namedStatementsAreReused() {
    await withClient(async (client) => {
      for (let number = 0; number < 20; number += 1) {
        const { rows } = await client.query({ name: 'twice', text: 'select $1::int * 2 as twice', values: [number] });
        assert.deepEqual(rows, [{ twice: number * 2 }]);
      }
    });
  },

  async queriesMayBeSentAhead() {
    await withClient(async (client) => {
      const numbers = Array.from({ length: 50 }, (_, number) => number);
      const results = await Promise.all(numbers.map((number) => client.query('select $1::int as n', [number])));
      assert.deepEqual(results.map((result) => result.rows[0].n), numbers);
    });
  },

  async transactionsCommitAndRollBack() {
    await withClient(async (client) => {
      await client.query('create table node_things (id int primary key)');
      await client.query('begin');
      await client.query('insert into node_things values ($1)', [1]);
      await client.query('commit');
      await client.query('begin');
      await client.query('insert into node_things values ($1)', [2]);
      await failsWith('23505', () => client.query('insert into node_things values ($1)', [2]));
      await failsWith('25P02', () => client.query('select 1'));
      await client.query('rollback');
      const { rows } = await client.query('select id from node_things');
      assert.deepEqual(rows, [{ id: 1 }]);
    });
  },

  async errorsKeepTheConnection() {
    await withClient(async (client) => {
      await failsWith('22012', () => client.query('select 1/0'));
      await failsWith('42P01', () => client.query('select * from nowhere where id = $1', [1]));
      await failsWith('42601', () => client.query({ name: 'broken', text: 'selekt $1', values: [1] }));
      const { rows } = await client.query({ name: 'broken', text: 'select $1::int as n', values: [1] });
      assert.deepEqual(rows, [{ n: 1 }]);
    });
  },

  async aQueryIsCancelled() {
    await withClient(async (client) => {
      const query = client.query('select pg_sleep(30)');
      // The driver offers no cancel on a promise: the protocol's own, on a connection of its own.
      const canceller = new Client({ connectionString });
      const hasFailed = assert.rejects(query, (error) => error.code === '57014');
      setTimeout(() => canceller.cancel(client, client._activeQuery ?? client.activeQuery), 300);
      await hasFailed;
      const { rows } = await client.query('select 1 as one');
      assert.deepEqual(rows, [{ one: 1 }]);
    });
  },

  async aPoolMayBeLargerThanTheServers() {
    const pool = new Pool({ connectionString, max: 20 });
    const numbers = Array.from({ length: 200 }, (_, number) => number);
    const results = await Promise.all(
      numbers.map((number) => pool.query({ name: 'pooled', text: 'select $1::int as n', values: [number] })),
    );
    assert.deepEqual(results.map((result) => result.rows[0].n), numbers);
    await pool.end();
  },

  async manyRowsArriveWhole() {
    await withClient(async (client) => {
      const { rows } = await client.query("select n, repeat('x', 100) as filler from generate_series(1, 20000) n");
      assert.equal(rows.length, 20000);
      assert.equal(rows[19999].filler.length, 100);
    });
  },
};

(async () => {
  for (const [name, behaviour] of Object.entries(behaviours)) {
    console.log(name);
    await behaviour();
  }
  console.log('ok');
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
