// Drizzle over node-postgres and over postgres.js.
'use strict';

const assert = require('node:assert/strict');
const { drizzle: overPg } = require('drizzle-orm/node-postgres');
const { drizzle: overPostgres } = require('drizzle-orm/postgres-js');
const { eq, relations, sql } = require('drizzle-orm');
const { integer, pgTable, serial, text } = require('drizzle-orm/pg-core');
const { Pool } = require('pg');
const postgres = require('postgres');
const { url, CLIENTS, TURNS, timesRun, pause, numbers, failsWith, run } = require('./check.js');

const authors = pgTable('authors', { id: serial('id').primaryKey(), name: text('name').notNull().unique() });
const books = pgTable('books', { id: serial('id').primaryKey(), title: text('title'), authorId: integer('author_id') });
const schema = {
  authors,
  books,
  authorsRelations: relations(authors, ({ many }) => ({ books: many(books) })),
  booksRelations: relations(books, ({ one }) => ({
    author: one(authors, { fields: [books.authorId], references: [authors.id] }),
  })),
};

const pool = new Pool({ connectionString: url, max: CLIENTS });
const client = postgres(url, { max: CLIENTS, onnotice: () => {} });
const ways = [['pg', overPg(pool, { schema })], ['postgres.js', overPostgres(client, { schema })]];

// Both drivers answer a raw statement in a shape of their own.
const rowsOf = (result) => [...(result.rows ?? result)];

const checks = {
  async aSchemaIsMade(db) {
    await db.execute(sql`drop table if exists books, authors`);
    await db.execute(sql`create table authors (id serial primary key, name text not null unique)`);
    await db.execute(sql`create table books (id serial primary key, title text, author_id int references authors)`);
  },

  async rowsGoInAndComeOut(db) {
    const [ada] = await db.insert(authors).values({ name: 'Ada' }).returning();
    await db.insert(books).values(numbers(50).map((number) => ({ title: `Volume ${number}`, authorId: ada.id })));
    const joined = await db.select().from(books).innerJoin(authors, eq(books.authorId, authors.id));
    assert.equal(joined.length, 50);
    const whole = await db.query.authors.findFirst({ with: { books: true } });
    assert.deepEqual([whole.name, whole.books.length], ['Ada', 50]);
    await db.insert(authors).values({ name: 'Ada' }).onConflictDoNothing();
    await db.update(books).set({ title: 'The last' }).where(eq(books.title, 'Volume 49'));
    assert.equal((await db.delete(books).where(eq(books.title, 'The last')).returning()).length, 1);
  },

  async preparedStatementsAreReused(db, name) {
    const marker = `reuse by drizzle over ${name}`;
    await db.transaction(async (tx) => {
      const byName = tx
        .select({ id: authors.id, note: sql`${sql.raw(`'${marker}'`)}` })
        .from(authors)
        .where(eq(authors.name, sql.placeholder('name')))
        .prepare('by_name');
      for (let turn = 0; turn < 20; turn += 1) assert.equal((await byName.execute({ name: 'Ada' })).length, 1);
      const [{ statements, runs }] = rowsOf(await tx.execute(sql.raw(timesRun(marker))));
      assert.ok(statements === 1 && runs >= 20, `${statements} ${runs}`);
    });
  },

  async transactionsCommitAndRollBack(db) {
    await db.transaction(async (tx) => {
      await tx.insert(authors).values({ name: 'Grace' });
      await failsWith('23505', () => tx.transaction(async (savepoint) => {
        await savepoint.insert(authors).values({ name: 'Nobody' });
        await savepoint.insert(authors).values({ name: 'Ada' });
      }));
    });
    await assert.rejects(db.transaction(async (tx) => {
      await tx.insert(authors).values({ name: 'Rolled back' });
      tx.rollback();
    }));
    const names = await db.select({ name: authors.name }).from(authors).orderBy(authors.name);
    assert.deepEqual(names, [{ name: 'Ada' }, { name: 'Grace' }]);
  },

  async errorsKeepTheConnection(db) {
    for (let round = 0; round < 2; round += 1) {
      await failsWith('23505', () => db.insert(authors).values({ name: 'Ada' }));
      await failsWith('42P01', () => db.execute(sql`select * from nowhere where id = ${1}`));
      await failsWith('42601', () => db.execute(sql`selekt ${1}`));
      assert.equal((await db.select().from(authors)).length, 2);
    }
  },

  async eachTransactionSeesItsOwnTenant(db) {
    const seen = await Promise.all(numbers(CLIENTS * TURNS).map((number) => db.transaction(async (tx) => {
      const tenant = `tenant ${number}`;
      await tx.execute(sql`select set_config('app.tenant_id', ${tenant}, true)`);
      await pause(1);
      const [row] = rowsOf(await tx.execute(sql`select current_setting('app.tenant_id') as tenant`));
      return row.tenant === tenant;
    })));
    assert.ok(seen.every(Boolean), `${seen.filter((right) => !right).length} saw another's tenant`);
  },
};

run({
  ...Object.fromEntries(ways.flatMap(([name, db]) => (
    Object.entries(checks).map(([check, work]) => [`${check} over ${name}`, () => work(db, name)])
  ))),
  async theEnd() {
    await pool.end();
    await client.end();
  },
});
