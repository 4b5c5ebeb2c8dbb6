// graphile-worker, a job queue in PostgreSQL that is told of new jobs by LISTEN.
'use strict';

const assert = require('node:assert/strict');
const { EventEmitter, once } = require('node:events');
const { Logger, makeWorkerUtils, run: runWorker } = require('graphile-worker');
const { Pool } = require('pg');
const { url, pause, numbers, soon, eventually, run } = require('./check.js');

// Each keeps a connection for LISTEN beside those that run jobs.
const RUNNERS = 2;
// Jobs that each runner runs at once: together more than a pool before the server may open connections to it.
const CONCURRENCY = 6;

const logger = new Logger(() => () => {});
const pool = new Pool({ connectionString: url, max: 4 });
const valueOf = async (text, values) => Object.values((await pool.query(text, values)).rows[0])[0];
// The crontab's own jobs left out: a minute may begin, and a job with it, while a runner stops.
const jobsLeft = () => valueOf("select count(*)::int from graphile_worker.jobs where task_identifier <> 'tick'");

// Runs `work` with workers that look for jobs every `pollInterval` ms, and stops them as an application does.
async function withRunners(options, work) {
  const runners = [];
  for (let number = 0; number < RUNNERS; number += 1) {
    const events = new EventEmitter();
    const listening = once(events, 'pool:listen:success');
    runners.push(await runWorker({
      connectionString: url, concurrency: CONCURRENCY, noHandleSignals: true, logger, events, ...options,
    }));
    await listening;
  }
  await work(runners);
  await soon(() => Promise.all(runners.map((runner) => runner.stop())));
}

let utils;

run({
  async theSchemaIsMigrated() {
    utils = await makeWorkerUtils({ connectionString: url, logger });
    await utils.migrate();
    assert.equal(await jobsLeft(), 0);
  },

  async aNotificationStartsAJobLongBeforeTheNextPoll() {
    const delays = [];
    const taskList = { now: async ({ sent }) => { delays.push(Date.now() - sent); } };
    await withRunners({ taskList, pollInterval: 60_000 }, async () => {
      for (let turn = 0; turn < 20; turn += 1) {
        await utils.addJob('now', { sent: Date.now() });
        await eventually('the job was run', () => delays.length === turn + 1, 10_000);
      }
    });
    delays.sort((a, b) => a - b);
    console.log(`jobs started ${delays[10]} ms (median), ${delays[19]} ms (longest) after they were added`);
  },

  async eachJobIsRunOnce() {
    const runs = new Map();
    const taskList = {
      count: async ({ number }, helpers) => {
        const { rows } = await helpers.withPgClient(async (client) => {
          await client.query('begin');
          await client.query("select set_config('app.tenant_id', $1, true)", [`tenant ${number}`]);
          await pause(2);
          const seen = await client.query("select current_setting('app.tenant_id') as tenant");
          await client.query('commit');
          return seen;
        });
        assert.equal(rows[0].tenant, `tenant ${number}`);
        runs.set(number, (runs.get(number) ?? 0) + 1);
      },
    };
    await withRunners({ taskList, pollInterval: 1000 }, async () => {
      await Promise.all(numbers(150).map((number) => utils.addJob('count', { number })));
      await eventually('all jobs were run', async () => await jobsLeft() === 0);
    });
    assert.deepEqual([...runs.values()], Array(150).fill(1));
  },

  async aFailedJobIsRunAgain() {
    const attempts = [];
    const taskList = {
      flaky: async (_, { job }) => {
        attempts.push(job.attempts);
        if (job.attempts < 2) throw new Error('not yet');
      },
      hopeless: async () => { throw new Error('never'); },
    };
    await withRunners({ taskList, pollInterval: 200 }, async () => {
      await utils.addJob('flaky', {});
      await utils.addJob('hopeless', {}, { maxAttempts: 1 });
      await eventually('the second attempt went well', () => attempts.length === 2);
      await eventually('only the hopeless one is left', async () => await jobsLeft() === 1);
    });
    assert.deepEqual(attempts, [1, 2]);
    assert.equal(await valueOf('select last_error from graphile_worker.jobs'), 'never');
    await pool.query('delete from graphile_worker._private_jobs');
  },

  async jobsOfOneQueueKeepTheirOrder() {
    const seen = [];
    const taskList = {
      ordered: async ({ number }) => {
        await pause(5);
        seen.push(number);
      },
    };
    for (const number of numbers(15)) await utils.addJob('ordered', { number }, { queueName: 'one after the other' });
    for (const number of [1, 2]) await utils.addJob('ordered', { number: 100 + number }, { jobKey: 'the same' });
    await withRunners({ taskList, pollInterval: 100 }, () => (
      eventually('all jobs were run', async () => await jobsLeft() === 0)
    ));
    assert.deepEqual(seen.filter((number) => number < 100), numbers(15));
    assert.deepEqual(seen.filter((number) => number > 100), [102]);
  },

  async missedJobsOfTheCrontabAreMadeUpFor() {
    const runs = [];
    const taskList = { tick: async (payload) => { runs.push(payload._cron.backfilled); } };
    const options = { taskList, crontab: '* * * * * tick ?fill=10m&max=1', pollInterval: 100 };
    const known = () => valueOf('select count(*)::int from graphile_worker._private_known_crontabs');
    await withRunners(options, () => eventually('the crontab is known', async () => await known() === 1));
    const before = runs.length;
    await pool.query(`update graphile_worker._private_known_crontabs
      set known_since = now() - interval '1 hour', last_execution = now() - interval '5 minutes'`);
    await withRunners(options, () => eventually('the jobs were run', () => runs.length >= before + 4));
    assert.ok(runs.filter(Boolean).length >= 4, String(runs));
  },

  async aRunnerFinishesItsJobsBeforeItStops() {
    const done = [];
    const taskList = {
      slow: async ({ number }, helpers) => {
        await helpers.query('select pg_sleep(0.7)');
        done.push(number);
      },
    };
    const started = [];
    await withRunners({ taskList, pollInterval: 100 }, async (runners) => {
      runners.forEach((runner) => runner.events.on('job:start', () => started.push(1)));
      await Promise.all(numbers(6).map((number) => utils.addJob('slow', { number })));
      await eventually('all jobs are under way', () => started.length === 6);
    });
    assert.equal(done.length, 6);
    assert.equal(await jobsLeft(), 0);
  },

  async theEnd() {
    await utils.release();
    await pool.end();
  },
});
