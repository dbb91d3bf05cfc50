'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { stack, rejection, fresh } = require('./support')

const range = count => [...Array(count).keys()]

test('a document is created, read, updated and destroyed', async () => {
  const todos = stack.collection(fresh('io.cozy.todos'))
  const { data: made } = await todos.create({ label: 'Buy bread', done: false })
  assert.match(made._rev, /^1-/)
  const { data: changed } = await todos.update({ ...made, done: true })
  assert.match(changed._rev, /^2-/)
  assert.equal((await todos.get(made._id)).data.done, true)
  assert.equal((await rejection(todos.update({ ...made, done: null }))).status, 409)
  const { data: gone } = await todos.destroy(changed)
  assert.equal(gone._deleted, true)
  assert.equal((await todos.get(made._id)).data, null)
})

test('a document is created under an id', async () => {
  const settings = stack.collection(fresh('io.cozy.todos'))
  const { data } = await settings.create({ _id: 'home', theme: 'dark' })
  assert.equal(data._id, 'home')
})

test('documents are found with an index, sorted and in pages', async () => {
  const bills = stack.collection(fresh('io.cozy.bills'))
  for (const number of range(7)) await bills.create({ number, even: number % 2 === 0 })
  const options = { sort: [{ even: 'asc' }, { number: 'asc' }], limit: 3 }
  const selector = { even: true, number: { $gte: 0 } }
  const first = await bills.find(selector, { ...options, indexedFields: ['even', 'number'] })
  assert.deepEqual(first.data.map(bill => bill.number), [0, 2, 4])
  assert.equal(first.next, true)
  const second = await bills.find(selector, { ...options, indexedFields: ['even', 'number'], bookmark: first.bookmark })
  assert.deepEqual(second.data.map(bill => bill.number), [6])
  assert.equal(second.next, false)
  const all = await bills.findAll(selector, { ...options, indexedFields: ['even', 'number'] })
  assert.equal(all.length, 4)
})

test('an index that is missing is made, and one for a part of the documents', async () => {
  const bills = stack.collection(fresh('io.cozy.bills'))
  for (const number of range(3)) await bills.create({ number, vendor: number ? 'bank' : 'shop' })
  const { data } = await bills.find({ number: { $gt: 0 } }, { sort: [{ number: 'desc' }] })
  assert.deepEqual(data.map(bill => bill.number), [2, 1])
  const part = await bills.find(
    { number: { $gte: 0 } },
    { indexedFields: ['number'], partialFilter: { vendor: 'shop' } }
  )
  assert.deepEqual(part.data.map(bill => bill.number), [0])
})

test('all documents are listed, and some by their ids', async () => {
  const todos = stack.collection(fresh('io.cozy.todos'))
  const { data: made } = await todos.updateAll(range(5).map(number => ({ number }))).then(() => todos.all({ limit: 3 }))
  assert.equal(made.length, 3)
  const { data: some } = await todos.getAll(made.slice(1).map(todo => todo._id))
  assert.deepEqual(some.map(todo => todo._id), made.slice(1).map(todo => todo._id))
})

test('many documents are written and deleted at once', async () => {
  const todos = stack.collection(fresh('io.cozy.todos'))
  const written = await todos.updateAll(range(3).map(number => ({ number })))
  assert.ok(written.every(result => result.ok), JSON.stringify(written))
  const { data } = await todos.all()
  const gone = await todos.destroyAll(data)
  assert.ok(gone.every(result => result.ok), JSON.stringify(gone))
  assert.deepEqual((await todos.all()).data, [])
})

test('a type that was never written is empty', async () => {
  assert.deepEqual((await stack.collection(fresh('io.cozy.todos')).all()).data, [])
})

test('changes are followed', async () => {
  const todos = stack.collection(fresh('io.cozy.todos'))
  const { data: made } = await todos.create({ label: 'one' })
  const { newLastSeq, documents } = await todos.fetchChanges({ since: '', includeDocs: true }, { includeDesign: false })
  assert.deepEqual(documents.map(todo => todo._id), [made._id])
  await todos.destroy(made)
  const later = await todos.fetchChanges({ since: newLastSeq, includeDocs: true }, { includeDeleted: true })
  assert.deepEqual(later.documents.map(todo => todo._deleted), [true])
})

test('indexes are listed and destroyed', async () => {
  const todos = stack.collection(fresh('io.cozy.todos'))
  await todos.create({ label: 'one' })
  await todos.createIndex(['label'])
  const [index] = await todos.fetchAllMangoIndexes()
  assert.match(index._id, /^_design\//)
  await todos.destroyIndex(index)
  assert.deepEqual(await todos.fetchAllMangoIndexes(), [])
})
