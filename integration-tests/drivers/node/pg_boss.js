// pg-boss, a job queue in PostgreSQL that polls.
'use strict';

const assert = require('node:assert/strict');
const { Pool } = require('pg');
const PgBoss = require('pg-boss');
const { url, pause, numbers, soon, eventually, run } = require('./check.js');

// Connections of each instance: together more than a pool before the server may open connections to it.
const CONNECTIONS = 6;
const INSTANCES = 2;

const pool = new Pool({ connectionString: url, max: 4 });
const rowsOf = async (text, values) => (await pool.query(text, values)).rows;
const countOf = async (state, name) => {
  const [row] = await rowsOf('select count(*)::int as n from pgboss.job where state = $1 and name = $2', [state, name]);
  return row.n;
};
// What an instance reports beside its calls; there must be nothing.
const reported = [];
const bosses = [];
const polling = { pollingIntervalSeconds: 0.5 };

run({
  async theSchemaIsMade() {
    for (let number = 0; number < INSTANCES; number += 1) {
      const boss = new PgBoss({
        connectionString: url, max: CONNECTIONS, cronMonitorIntervalSeconds: 1, cronWorkerIntervalSeconds: 1,
      });
      boss.on('error', (error) => reported.push(error));
      bosses.push(boss);
    }
    // Both at once: the second waits for what the first creates.
    await Promise.all(bosses.map((boss) => boss.start()));
    assert.equal(await bosses[0].isInstalled(), true);
    for (const name of ['count', 'flaky', 'hopeless', 'dead', 'tick', 'slow', 'once']) await bosses[0].createQueue(name);
  },

  async eachJobIsRunOnce() {
    const runs = new Map();
    for (const boss of bosses) {
      for (let worker = 0; worker < 4; worker += 1) {
        await boss.work('count', { ...polling, batchSize: 5 }, async (jobs) => {
          for (const { data } of jobs) runs.set(data.number, (runs.get(data.number) ?? 0) + 1);
        });
      }
    }
    await Promise.all(numbers(60).map((number) => bosses[number % INSTANCES].send('count', { number })));
    await bosses[0].insert(numbers(60).map((number) => ({ name: 'count', data: { number: 60 + number } })));
    await eventually('all jobs were run', async () => await countOf('completed', 'count') === 120);
    assert.deepEqual([...runs.values()], Array(120).fill(1));
    await Promise.all(bosses.map((boss) => boss.offWork('count')));
  },

  async aFailedJobIsRunAgain() {
    let attempts = 0;
    await bosses[0].work('flaky', polling, async () => {
      attempts += 1;
      if (attempts < 3) throw new Error('not yet');
      return { attempts };
    });
    await bosses[0].work('hopeless', polling, async () => { throw new Error('never'); });
    const id = await bosses[1].send('flaky', {}, { retryLimit: 5, retryDelay: 0 });
    await bosses[1].send('hopeless', { of: 'mine' }, { retryLimit: 0, deadLetter: 'dead' });
    await eventually('the third attempt went well', async () => await countOf('completed', 'flaky') === 1);
    assert.deepEqual((await bosses[1].getJobById('flaky', id)).output, { attempts: 3 });
    await eventually('the other is given up', async () => await countOf('failed', 'hopeless') === 1);
    const [dead] = await eventually('it is a dead letter', () => bosses[1].fetch('dead'));
    assert.deepEqual(dead.data, { of: 'mine' });
    await bosses[1].complete('dead', dead.id);
  },

  async aJobIsPartOfATransaction() {
    const client = await pool.connect();
    const db = { executeSql: (text, values) => client.query(text, values) };
    for (const [end, expected] of [['rollback', 0], ['commit', 1]]) {
      await client.query('begin');
      await bosses[0].send('once', { end }, { db });
      await client.query(end);
      assert.equal(await countOf('created', 'once'), expected, end);
    }
    client.release();
  },

  async aScheduleSendsItsJobs() {
    let ticks = 0;
    await bosses[0].work('tick', polling, async () => { ticks += 1; });
    await bosses[0].schedule('tick', '* * * * *', { by: 'schedule' });
    await eventually('the schedule sent a job', () => ticks > 0, 30_000);
    await bosses[0].unschedule('tick');
  },

  async anInstanceFinishesItsJobsBeforeItStops() {
    const done = [];
    let started = 0;
    for (let worker = 0; worker < 4; worker += 1) {
      await bosses[1].work('slow', polling, async ([{ id }]) => {
        started += 1;
        await pause(1000);
        done.push(id);
      });
    }
    await Promise.all(numbers(4).map(() => bosses[0].send('slow')));
    await eventually('all jobs are under way', () => started === 4);
    await soon(() => Promise.all(bosses.map((boss) => boss.stop({ graceful: true, timeout: 15_000 }))), 20_000);
    assert.equal(done.length, 4);
    assert.equal(await countOf('completed', 'slow'), 4);
    assert.deepEqual(reported, []);
    await pool.end();
  },
});
