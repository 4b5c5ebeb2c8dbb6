// What the programs of this folder share. Each takes a connection URL and prints one line for each check that holds;
// the first that does not ends it with status 1 and says why. Nothing in them depends on whether a proxy is in between.
// The folder with node_modules is told in NODE_PATH.
'use strict';

const assert = require('node:assert/strict');

const url = process.argv[2];
// More than a pool before the server may open connections to it.
const CLIENTS = 12;
// Transactions of each client where many run at once.
const TURNS = 10;
// What each client asks for again and again: its own tenant, whatever the others set.
const SETTING = "select current_setting('app.tenant_id') as tenant";

// A statement that only one client prepares, and long enough for the others to take its server away meanwhile.
const ownStatement = (tenant) => `select $1::int as n, pg_sleep(0.002)::text /* ${tenant} */`;

// How many statements with `marker` this server process holds, and how often it ran them.
const timesRun = (marker) => `select count(*)::int as statements,
  coalesce(sum(generic_plans + custom_plans), 0)::int as runs from held_statements
  where statement like '%${marker}%' and statement not like '%held_statements%'`;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const numbers = (count) => Array.from({ length: count }, (_, number) => number);

// SQLSTATE of an error, or of what an object-relational mapper wrapped it in.
const codeOf = (error) => error.code ?? error.cause?.code;

async function failsWith(code, work) {
  await assert.rejects(work, (error) => {
    assert.equal(codeOf(error), code, String(error));
    return true;
  });
}

// For something that must not take as long as the query in it would.
async function soon(work, limit = 10_000) {
  const begun = Date.now();
  const done = await work();
  assert.ok(Date.now() - begun < limit, `took ${Date.now() - begun} ms`);
  return done;
}

// Waits until `ready` answers something true, and returns that.
async function eventually(what, ready, limit = 20_000) {
  const deadline = Date.now() + limit;
  for (;;) {
    const found = await ready();
    if (found) return found;
    assert.ok(Date.now() < deadline, `waited ${limit} ms in vain until ${what}`);
    await pause(20);
  }
}

// As many callers as told meet here: nobody goes on before all have come.
function barrier(count) {
  let open;
  const opened = new Promise((resolve) => { open = resolve; });
  let missing = count;
  return async () => {
    missing -= 1;
    if (missing === 0) open();
    await opened;
  };
}

// Runs checks, functions by name, one after the other.
async function run(checks) {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (error) {
      console.error(error);
      console.error(`FAILED: ${name}`);
      process.exit(1);
    }
    console.log('holds:', name);
  }
  console.log('ok');
}

module.exports = {
  url, CLIENTS, TURNS, SETTING, ownStatement, timesRun, pause, numbers, failsWith, soon, eventually, barrier, run,
};
