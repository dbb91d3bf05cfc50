'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { Q } = require('cozy-client')
const { client, fresh, slug } = require('./support')

test('documents are saved, queried and destroyed', async () => {
  const doctype = fresh('io.cozy.todos')
  for (const number of [3, 1, 2]) await client.save({ _type: doctype, number })
  const query = Q(doctype).where({ number: { $gt: 1 } }).indexFields(['number']).sortBy([{ number: 'asc' }])
  const { data } = await client.query(query)
  assert.deepEqual(data.map(todo => todo.number), [2, 3])
  const { data: changed } = await client.save({ ...data[0], number: 20 })
  assert.equal(changed.number, 20)
  await client.destroy(changed)
  assert.equal((await client.query(Q(doctype))).data.length, 2)
  assert.equal((await client.queryAll(Q(doctype).limitBy(1))).length, 2)
  assert.equal((await client.query(Q(doctype).getById(data[1]._id))).data.number, 3)
})

test('konnectors, triggers and jobs are queried', async () => {
  const { data: konnectors } = await client.query(Q('io.cozy.konnectors'))
  assert.ok(konnectors.some(konnector => konnector.slug === slug))
  const { data: triggers } = await client.query(Q('io.cozy.triggers').where({ worker: 'konnector' }))
  assert.ok(triggers.length > 0)
  const { data: jobs } = await client.query(Q('io.cozy.jobs').where({ worker: 'konnector' }).indexFields(['worker']))
  assert.ok(Array.isArray(jobs))
})
