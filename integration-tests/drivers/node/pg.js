// node-postgres, with its pool, cursors and copy streams.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const copyStreams = require('pg-copy-streams');
const {
  url, CLIENTS, TURNS, SETTING, ownStatement, timesRun, numbers, failsWith, soon, barrier, run,
} = require('./check.js');

async function withClient(work, more = {}) {
  const client = new Client({ connectionString: url, ...more });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

async function works(client) {
  const { rows } = await client.query('select $1::int as one', [1]);
  assert.deepEqual(rows, [{ one: 1 }]);
}

run({
  async namedStatementsAreReused() {
    await withClient(async (client) => {
      await client.query('begin');
      for (const number of numbers(20)) {
        const text = 'select $1::int * 2 as twice /* reuse by pg */';
        const { rows } = await client.query({ name: 'twice', text, values: [number] });
        assert.deepEqual(rows, [{ twice: number * 2 }]);
      }
      const { rows: [{ statements, runs }] } = await client.query(timesRun('reuse by pg'));
      assert.ok(statements === 1 && runs >= 20, `${statements} ${runs}`);
      await client.query('commit');
    });
  },

  async queriesMayBeQueued() {
    await withClient(async (client) => {
      const results = await Promise.all(numbers(50).map((number) => client.query('select $1::int as n', [number])));
      assert.deepEqual(results.map((result) => result.rows[0].n), numbers(50));
    });
  },

  async transactionsCommitAndRollBack() {
    await withClient(async (client) => {
      const insert = 'insert into pg_things values ($1)';
      await client.query('create table pg_things (id int primary key)');
      await client.query('begin');
      await client.query(insert, [1]);
      await client.query('savepoint here');
      await failsWith('23505', () => client.query(insert, [1]));
      await client.query('rollback to here');
      await client.query('commit');
      await client.query('begin');
      await client.query(insert, [2]);
      await failsWith('23505', () => client.query(insert, [2]));
      await failsWith('25P02', () => client.query('select 1'));
      await client.query('rollback');
      const { rows } = await client.query('select id from pg_things');
      assert.deepEqual(rows, [{ id: 1 }]);
    });
  },

  async errorsKeepTheConnection() {
    await withClient(async (client) => {
      for (let round = 0; round < 2; round += 1) {
        await failsWith('22012', () => client.query('select 1/0'));
        await failsWith('42P01', () => client.query('select * from nowhere where id = $1', [1]));
        await failsWith('23505', () => client.query('insert into pg_things values ($1)', [1]));
        await failsWith('42601', () => client.query({ name: `broken ${round}`, text: 'selekt $1', values: [1] }));
        const { rows } = await client.query({ name: `broken ${round}`, text: 'select $1::int as n', values: [1] });
        assert.deepEqual(rows, [{ n: 1 }]);
      }
    });
  },

  async severalStatementsAreOneQuery() {
    await withClient(async (client) => {
      const results = await client.query('select 1 as a; select 2 as b; create temp table gone (n int)');
      assert.deepEqual(results.map((result) => result.command), ['SELECT', 'SELECT', 'CREATE']);
    });
  },

  async rowsAreCopiedInAndOut() {
    await withClient(async (client) => {
      await client.query('create table pg_copied (n int, line text)');
      const lines = Readable.from(numbers(5000).map((number) => `${number}\tline ${number}\n`));
      const into = client.query(copyStreams.from('copy pg_copied from stdin'));
      await pipeline(lines, into);
      assert.equal(into.rowCount, 5000);
      let bytes = '';
      for await (const chunk of client.query(copyStreams.to('copy pg_copied to stdout'))) bytes += chunk;
      assert.equal(bytes.split('\n').length, 5001);
      const wrong = client.query(copyStreams.from('copy pg_copied from stdin'));
      await failsWith('22P02', () => pipeline(Readable.from(['not a number\tx\n']), wrong));
      await works(client);
    });
  },

  async aCursorReadsInPortions() {
    await withClient(async (client) => {
      const cursor = client.query(new Cursor('select generate_series(1, $1::int) as n', [25]));
      const portions = [];
      for (;;) {
        const rows = await cursor.read(10);
        portions.push(rows.length);
        if (rows.length === 0) break;
      }
      assert.deepEqual(portions, [10, 10, 5, 0]);
      await cursor.close();
      const left = client.query(new Cursor('select generate_series(1, 1000) as n'));
      await left.read(1);
      await left.close();
      await works(client);
    });
  },

  async aQueryIsCancelled() {
    await withClient(async (client) => {
      // The driver offers no cancel on a promise: the protocol's own, on a connection of its own.
      const query = client.query('select pg_sleep(30)');
      const canceller = new Client({ connectionString: url });
      const hasFailed = soon(() => failsWith('57014', () => query));
      setTimeout(() => canceller.cancel(client, client._activeQuery ?? client.activeQuery), 300);
      await hasFailed;
      await works(client);
    });
    await withClient(async (client) => {
      await soon(() => failsWith('57014', () => client.query('select pg_sleep(30)')));
      const { rows } = await client.query('show statement_timeout');
      assert.deepEqual(rows, [{ statement_timeout: '300ms' }]);
    }, { statement_timeout: 300 });
  },

  async notificationsArrive() {
    await withClient(async (listener) => {
      await listener.query('listen pg_news');
      const heard = once(listener, 'notification');
      await withClient((sender) => sender.query("select pg_notify('pg_news', $1)", ['hello']));
      const [{ channel, payload }] = await heard;
      assert.deepEqual([channel, payload], ['pg_news', 'hello']);
    });
  },

  async manyRowsArriveWhole() {
    await withClient(async (client) => {
      const { rows } = await client.query("select n, repeat('x', 100) as filler from generate_series(1, 20000) n");
      assert.equal(rows.length, 20000);
      assert.equal(rows[19999].filler.length, 100);
    });
  },

  async aPoolMayBeLargerThanTheServers() {
    const pool = new Pool({ connectionString: url, max: CLIENTS });
    const results = await Promise.all(
      numbers(200).map((number) => pool.query({ name: 'pooled', text: 'select $1::int as n', values: [number] })),
    );
    assert.deepEqual(results.map((result) => result.rows[0].n), numbers(200));
    await pool.end();
  },

  async eachClientOfAPoolSeesItsOwnTenant() {
    const pool = new Pool({ connectionString: url, max: CLIENTS });
    const together = barrier(CLIENTS);
    await Promise.all(numbers(CLIENTS).map(async (number) => {
      const tenant = `tenant ${number}`;
      const own = { name: 'own', text: ownStatement(tenant) };
      const client = await pool.connect();
      await client.query("select set_config('app.tenant_id', $1, false)", [tenant]);
      await client.query({ ...own, values: [0] });
      await together();
      for (const turn of numbers(TURNS)) {
        await client.query('begin');
        assert.deepEqual((await client.query(SETTING)).rows, [{ tenant }]);
        assert.equal((await client.query({ ...own, values: [turn] })).rows[0].n, turn);
        await client.query('commit');
      }
      client.release();
    }));
    await pool.end();
  },

  async startupOptionsSetTheTenant() {
    const pools = numbers(CLIENTS).map((number) => (
      new Pool({ connectionString: url, max: 1, application_name: `app ${number}`, options: `-c app.tenant_id=t${number}` })
    ));
    for (let round = 0; round < 3; round += 1) {
      const results = await Promise.all(pools.map((pool) => (
        pool.query("select current_setting('app.tenant_id') || current_setting('application_name') as who")
      )));
      assert.deepEqual(results.map((result) => result.rows[0].who), numbers(CLIENTS).map((n) => `t${n}app ${n}`));
    }
    await Promise.all(pools.map((pool) => pool.end()));
  },
});
