// postgres.js: prepares every statement, sends ahead by itself, and brings its own pool.
'use strict';

const assert = require('node:assert/strict');
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const postgres = require('postgres');
const {
  url, CLIENTS, TURNS, SETTING, ownStatement, timesRun, pause, numbers, failsWith, soon, barrier, run,
} = require('./check.js');

async function withSql(work, more = {}) {
  const sql = postgres(url, { onnotice: () => {}, ...more });
  try {
    await work(sql);
  } finally {
    await sql.end();
  }
}

async function works(sql) {
  assert.deepEqual([...await sql`select ${1}::int as one`], [{ one: 1 }]);
}

run({
  async preparedStatementsAreReused() {
    await withSql((sql) => sql.begin(async (transaction) => {
      for (const number of numbers(20)) {
        const rows = await transaction`select ${number}::int * 2 as twice /* reuse by postgres.js */`;
        assert.deepEqual([...rows], [{ twice: number * 2 }]);
      }
      const [{ statements, runs }] = await transaction.unsafe(timesRun('reuse by postgres.js'));
      assert.ok(statements === 1 && runs >= 20, `${statements} ${runs}`);
    }));
  },

  async queriesAreSentAhead() {
    await withSql(async (sql) => {
      const results = await Promise.all(numbers(200).map((number) => sql`select ${number}::int as n`));
      assert.deepEqual(results.map(([row]) => row.n), numbers(200));
    }, { max: 1 });
  },

  async transactionsCommitAndRollBack() {
    await withSql(async (sql) => {
      await sql`create table js_things (id int primary key)`;
      await sql.begin(async (transaction) => {
        await transaction`insert into js_things values (1)`;
        await failsWith('23505', () => transaction.savepoint(async (savepoint) => {
          await savepoint`insert into js_things values (2)`;
          await savepoint`insert into js_things values (1)`;
        }));
      });
      await assert.rejects(sql.begin(async (transaction) => {
        await transaction`insert into js_things values (3)`;
        throw new Error('changed my mind');
      }), /changed my mind/);
      await failsWith('25006', () => sql.begin('read only', (transaction) => transaction`insert into js_things values (4)`));
      assert.deepEqual([...await sql`select id from js_things`], [{ id: 1 }]);
    });
  },

  async errorsKeepTheConnection() {
    await withSql(async (sql) => {
      for (let round = 0; round < 2; round += 1) {
        await failsWith('42601', () => sql`selekt ${1}`);
        await failsWith('42P01', () => sql`select * from nowhere where id = ${1}`);
        await failsWith('22012', () => sql`select 1 / ${0}::int`);
        await failsWith('23505', () => sql`insert into js_things values (${1})`);
        await works(sql);
      }
      // What was sent ahead of the error's reply goes on.
      const results = await Promise.allSettled([sql`select 1 as n`, sql`select 1 / ${0}::int`, sql`select 2 as n`]);
      assert.deepEqual(results.map((result) => result.status), ['fulfilled', 'rejected', 'fulfilled']);
    }, { max: 1 });
  },

  async statementsAreDescribed() {
    await withSql(async (sql) => {
      const { types, columns } = await sql`select ${1}::int as a, ${'x'}::text as b`.describe();
      assert.deepEqual([types, columns.map((column) => column.name)], [[23, 25], ['a', 'b']]);
      const results = await sql`select 1 as a; select 2 as b`.simple();
      assert.deepEqual(results.map(([row]) => row), [{ a: 1 }, { b: 2 }]);
      assert.deepEqual([...await sql`select ${sql.array([1, 2, 3])}::int[] as list`], [{ list: [1, 2, 3] }]);
    });
  },

  async rowsAreCopiedInAndOut() {
    await withSql(async (sql) => {
      await sql`create table js_copied (n int, line text)`;
      const lines = Readable.from(numbers(5000).map((number) => `${number}\tline ${number}\n`));
      await pipeline(lines, await sql`copy js_copied from stdin`.writable());
      assert.deepEqual([...await sql`select count(*)::int as n from js_copied`], [{ n: 5000 }]);
      let bytes = '';
      // Few enough for the driver's buffer: beyond it, its stream pauses the socket at the end and never goes on.
      for await (const chunk of await sql`copy (select * from js_copied where n < 500) to stdout`.readable()) bytes += chunk;
      assert.equal(bytes.split('\n').length, 501);
      await works(sql);
    });
  },

  async aCursorReadsInPortions() {
    await withSql(async (sql) => {
      const portions = [];
      for await (const rows of sql`select generate_series(1, 25) as n`.cursor(10)) portions.push(rows.length);
      assert.deepEqual(portions, [10, 10, 5]);
      for await (const rows of sql`select generate_series(1, 1000) as n`.cursor(10)) {
        assert.equal(rows.length, 10);
        break; // the rest is left unread
      }
      await works(sql);
      let seen = 0;
      await sql`select generate_series(1, 500) as n`.forEach(() => { seen += 1; });
      assert.equal(seen, 500);
    });
  },

  async aQueryIsCancelled() {
    await withSql(async (sql) => {
      const query = sql`select pg_sleep(${30})`.execute();
      const hasFailed = soon(() => failsWith('57014', () => query));
      await pause(300);
      await query.cancel();
      await hasFailed;
      await works(sql);
    });
  },

  async notificationsArrive() {
    await withSql(async (sql) => {
      let hear;
      const heard = new Promise((resolve) => { hear = resolve; });
      const { unlisten } = await sql.listen('js_news', hear);
      await sql.notify('js_news', 'hello');
      assert.equal(await soon(() => heard), 'hello');
      await unlisten();
    });
  },

  async largeObjectsKeepWhatTheyWereGiven() {
    await withSql(async (sql) => {
      const object = await sql.largeObject();
      await object.write(Buffer.alloc(100_000, 'x'));
      assert.equal(Number((await object.size())[0].size), 100_000);
      await object.close();
      await works(sql);
    });
  },

  async eachClientOfAPoolSeesItsOwnTenant() {
    await withSql(async (sql) => {
      const together = barrier(CLIENTS);
      await Promise.all(numbers(CLIENTS).map(async (number) => {
        const tenant = `tenant ${number}`;
        const client = await sql.reserve();
        await client`select set_config('app.tenant_id', ${tenant}, false)`;
        const own = (turn) => client.unsafe(ownStatement(tenant), [turn], { prepare: true });
        await own(0);
        await together();
        for (const turn of numbers(TURNS)) {
          await client`begin`;
          assert.deepEqual([...await client.unsafe(SETTING)], [{ tenant }]);
          assert.equal((await own(turn))[0].n, turn);
          await client`commit`;
        }
        client.release();
      }));
    }, { max: CLIENTS });
  },

  async transactionsOfAPoolKeepTheirTenant() {
    await withSql(async (sql) => {
      await Promise.all(numbers(5 * CLIENTS).map((number) => sql.begin(async (transaction) => {
        const tenant = `tenant ${number}`;
        await transaction`select set_config('app.tenant_id', ${tenant}, true)`;
        await pause(1);
        assert.deepEqual([...await transaction.unsafe(SETTING)], [{ tenant }]);
      })));
      const rows = await sql`select coalesce(current_setting('app.tenant_id', true), '') as tenant`;
      assert.deepEqual([...rows], [{ tenant: '' }]);
    }, { max: CLIENTS });
  },
});
