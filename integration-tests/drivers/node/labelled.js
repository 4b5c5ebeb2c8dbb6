// An application over Drizzle and node-postgres, whose every scenario is labelled: `n1-…` asks once for each row of a result,
// `ok-…` does not. The label is the scenario's application_name; each has a pool of its own, as an application has.
'use strict';

const { randomUUID } = require('node:crypto');
const { drizzle } = require('drizzle-orm/node-postgres');
const { and, count, desc, eq, gt, inArray, sql } = require('drizzle-orm');
const { integer, pgTable, serial, text, uuid, timestamp } = require('drizzle-orm/pg-core');
const { Pool } = require('pg');
const { url, pause, numbers } = require('./check.js');

const ROWS = 30;
const customers = pgTable('customers', { id: integer('id').primaryKey(), name: text('name'), region: text('region') });
const orders = pgTable('orders', {
  id: integer('id').primaryKey(), customerId: integer('customer_id'), state: text('state'), total: integer('total'),
});
const items = pgTable('items', { id: serial('id').primaryKey(), orderId: integer('order_id'), sku: text('sku') });
const products = pgTable('products', { sku: text('sku').primaryKey(), title: text('title') });
const documents = pgTable('documents', { id: uuid('id').primaryKey(), title: text('title') });
const revisions = pgTable('revisions', { id: serial('id').primaryKey(), documentId: uuid('document_id'), body: text('body') });
const jobs = pgTable('jobs', { id: integer('id').primaryKey(), state: text('state'), beat: timestamp('beat') });
const steps = pgTable('steps', { id: serial('id').primaryKey(), jobId: integer('job_id'), what: text('what') });
const folders = pgTable('folders', { id: integer('id').primaryKey(), parentId: integer('parent_id'), name: text('name') });

const schema = `
  drop table if exists customers, orders, items, products, documents, revisions, jobs, steps, folders;
  create table customers (id int primary key, name text, region text);
  create table orders (id int primary key, customer_id int, state text, total int);
  create table items (id serial primary key, order_id int, sku text);
  create table products (sku text primary key, title text);
  create table documents (id uuid primary key, title text);
  create table revisions (id serial primary key, document_id uuid, body text);
  create table jobs (id int primary key, state text, beat timestamp);
  create table steps (id serial primary key, job_id int, what text);
  create table folders (id int primary key, parent_id int, name text);
  insert into customers select 5000 + 11 * n, 'c' || n, 'r' || n % 3 from generate_series(1, ${ROWS}) n;
  insert into orders select 20000 + 7 * n, 5000 + 11 * (1 + n % ${ROWS}), 'open', n from generate_series(1, 200) n;
  insert into items (order_id, sku) select o.id, 'sku-' || (o.id + n) % 40 from orders o, generate_series(1, 3) n;
  insert into products select 'sku-' || n, 'product ' || n from generate_series(0, 39) n;
  insert into documents select gen_random_uuid(), 'd' || n from generate_series(1, ${ROWS}) n;
  insert into revisions (document_id, body) select id, 'body' from documents, generate_series(1, 2);
  insert into jobs select n, 'queued', now() from generate_series(1, 500) n;
  insert into folders select n, n / 3, 'f' || n from generate_series(1, 60) n;
`;

const recent = (db, limit = ROWS) => db.select().from(orders).orderBy(desc(orders.id)).limit(limit);
const spread = (list, work) => Promise.all(list.map(work));

const scenarios = {
  // One row after the other, as a loop with `await` in it does.
  async 'n1-lazy-one'(db) {
    for (const order of await recent(db)) await db.select().from(customers).where(eq(customers.id, order.customerId));
  },
  async 'n1-lazy-many'(db) {
    for (const order of await recent(db)) await db.select().from(items).where(eq(items.orderId, order.id));
  },
  async 'n1-all-at-once-over-a-pool'(db) {
    await spread(await recent(db), (order) => db.select().from(items).where(eq(items.orderId, order.id)));
  },
  async 'n1-count-per-row'(db) {
    for (const order of await recent(db)) {
      await db.select({ items: count() }).from(items).where(eq(items.orderId, order.id));
    }
  },
  async 'n1-latest-per-row'(db) {
    for (const document of await db.select().from(documents)) {
      await db.select().from(revisions).where(eq(revisions.documentId, document.id)).orderBy(desc(revisions.id)).limit(1);
    }
  },
  async 'n1-uuid-over-a-pool'(db) {
    const found = await db.select().from(documents);
    await spread(found, (document) => db.select().from(revisions).where(eq(revisions.documentId, document.id)));
  },
  async 'n1-text-key'(db) {
    const found = await db.select().from(items).where(gt(items.id, 0)).limit(ROWS);
    for (const item of found) await db.select().from(products).where(eq(products.sku, item.sku));
  },
  async 'n1-write-loop'(db) {
    for (const order of await recent(db)) await db.update(orders).set({ state: 'seen' }).where(eq(orders.id, order.id));
  },
  async 'n1-write-loop-in-a-transaction'(db) {
    await db.transaction(async (tx) => {
      for (const order of await tx.select().from(orders).where(eq(orders.state, 'open')).limit(ROWS)) {
        await tx.update(customers).set({ region: 'r9' }).where(eq(customers.id, order.customerId));
      }
    });
  },
  async 'n1-delete-loop'(db) {
    const found = await db.select().from(steps).limit(ROWS);
    for (const step of found) await db.delete(steps).where(eq(steps.id, step.id));
  },
  async 'n1-insert-loop'(db) {
    await db.transaction(async (tx) => {
      for (const n of numbers(ROWS)) await tx.insert(steps).values({ jobId: 9000 + n, what: 'import' });
    });
  },
  async 'n1-nested'(db) {
    for (const customer of await db.select().from(customers).limit(8)) {
      const own = await db.select().from(orders).where(eq(orders.customerId, customer.id));
      for (const order of own) await db.select().from(items).where(eq(items.orderId, order.id));
    }
  },
  async 'n1-read-in-a-transaction'(db) {
    await db.transaction(async (tx) => {
      const found = await tx.select().from(orders).limit(ROWS);
      for (const order of found) await tx.select().from(customers).where(eq(customers.id, order.customerId));
    });
  },
  async 'n1-plain-text-with-constants'(db, pool) {
    const { rows } = await pool.query('select id from orders order by id limit 30');
    for (const { id } of rows) await pool.query(`select sku from items where order_id = ${id}`);
  },

  async 'ok-batched'(db) {
    for (const turn of numbers(15)) {
      const found = await db.select().from(orders).limit(ROWS).offset(turn * 10);
      await db.select().from(items).where(inArray(items.orderId, found.map((order) => order.id)));
    }
  },
  async 'ok-batched-by-array'(db, pool) {
    for (const turn of numbers(15)) {
      const { rows } = await pool.query('select id from orders where total > $1 limit 30', [turn]);
      await pool.query('select * from items where order_id = any($1::int[])', [rows.map((row) => row.id)]);
    }
  },
  async 'ok-join'(db) {
    for (const turn of numbers(6)) {
      const joined = db.select().from(orders).innerJoin(customers, eq(orders.customerId, customers.id));
      await joined.where(gt(orders.total, 30 * turn));
      await pause(40);
    }
  },
  async 'ok-queue'(db) {
    for (const _ of numbers(40)) {
      await db.transaction(async (tx) => {
        const taken = await tx.execute(sql`select id from jobs where state = 'queued' order by id limit 1 for update skip locked`);
        for (const job of taken.rows) await tx.update(jobs).set({ state: 'done' }).where(eq(jobs.id, job.id));
      });
    }
  },
  async 'ok-queue-of-many-workers'(db) {
    await spread(numbers(6), async () => {
      for (const _ of numbers(15)) {
        const taken = await db.execute(sql`update jobs set state = 'taken' where id = (select id from jobs
          where state = 'queued' order by id limit 1 for update skip locked) returning id`);
        for (const job of taken.rows) await db.update(jobs).set({ state: 'done' }).where(eq(jobs.id, job.id));
      }
    });
  },
  async 'ok-heartbeats'(db) {
    await spread(numbers(6), async (worker) => {
      for (const _ of numbers(12)) {
        await db.update(jobs).set({ beat: new Date() }).where(eq(jobs.id, 400 + worker));
        await pause(40);
      }
    });
  },
  async 'ok-steps-of-separate-jobs'(db) {
    await spread(numbers(8), async (job) => {
      for (const step of numbers(5)) {
        await db.insert(steps).values({ jobId: job, what: `step ${step}` });
        await pause(30 + 7 * job);
      }
    });
  },
  async 'ok-pages-by-offset'(db) {
    for (const page of numbers(12)) await db.select().from(orders).orderBy(orders.id).limit(10).offset(10 * page);
  },
  async 'ok-pages-by-key'(db) {
    let last = 0;
    for (const _ of numbers(12)) {
      const page = await db.select().from(orders).where(gt(orders.id, last)).orderBy(orders.id).limit(10);
      last = page[page.length - 1].id;
    }
  },
  async 'ok-different-users'(db) {
    const known = numbers(24).map((n) => 5000 + 11 * (1 + (n * 17) % ROWS));
    await spread(known, async (id, n) => {
      await pause((n * 37) % 400);
      await db.select().from(customers).where(eq(customers.id, id));
      await db.select().from(orders).where(and(eq(orders.customerId, id), eq(orders.state, 'open'))).limit(5);
    });
  },
  async 'ok-one-child-for-each-list'(db) {
    // A chain: many users open a list, and then one thing of it.
    await spread(numbers(12), async (n) => {
      await pause((n * 53) % 500);
      const found = await recent(db, 10);
      await db.select().from(items).where(eq(items.orderId, found[n % found.length].id));
    });
  },
  async 'ok-rows-of-values'(db) {
    for (const turn of numbers(10)) {
      await db.insert(steps).values(numbers(20).map((n) => ({ jobId: turn, what: `row ${n}` })));
    }
  },
  async 'ok-settings-again-and-again'(db) {
    for (const _ of numbers(20)) {
      await db.select().from(products).where(eq(products.sku, 'sku-1'));
      await pause(20);
    }
  },
  async 'ok-tree-in-one'(db) {
    for (const root of numbers(6)) {
      await db.execute(sql`with recursive t as (select id, parent_id from folders where id = ${root + 1}
        union all select f.id, f.parent_id from folders f join t on f.parent_id = t.id) select * from t`);
    }
  },
  async 'ok-new-documents'(db) {
    for (const _ of numbers(6)) {
      const [made] = await db.insert(documents).values({ id: randomUUID(), title: 'new' }).returning();
      await db.insert(revisions).values({ documentId: made.id, body: 'first' });
      await pause(60);
    }
  },
};

async function main() {
  const setup = new Pool({ connectionString: url, max: 1 });
  await setup.query(schema);
  for (const job of numbers(40)) await setup.query('insert into steps (job_id, what) values ($1, $2)', [7000 + job, 'old']);
  await setup.end();
  for (const [label, work] of Object.entries(scenarios)) {
    const pool = new Pool({ connectionString: url, max: 10, application_name: label });
    await work(drizzle(pool), pool);
    await pool.end();
    console.log(`label ${label}`);
  }
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
