'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { stack, slug, account, rejection } = require('./support')

const jobs = stack.collection('io.cozy.jobs')

test('a job is pushed, watched and awaited', async () => {
  const { data: job } = await jobs.create('konnector', { konnector: slug, account }, {}, true)
  const seen = []
  const ended = await jobs.waitFor(job.id, { delay: 50, onUpdate: ({ state }) => seen.push(state) })
  assert.equal(ended.state, 'done', JSON.stringify(ended))
  assert.ok(seen.every(state => ['queued', 'running', 'done'].includes(state)))
  const { data } = await jobs.get(job.id)
  assert.equal(data.attributes.worker, 'konnector')
})

test('the jobs that wait or run are listed', async () => {
  const { data } = await jobs.queued('konnector')
  assert.ok(Array.isArray(data))
})

test('a job of the worker client is ended by the client', async () => {
  const { data: trigger } = await stack
    .collection('io.cozy.triggers')
    .create({ type: '@client', worker: 'client', message: { konnector: slug } })
  const { data: job } = await stack.collection('io.cozy.triggers').launch(trigger)
  const ended = await jobs.update({ _id: job._id, worker: 'client', attributes: { state: 'done' } })
  assert.equal(ended.attributes.state, 'done')
})

test('jobs are queried', async () => {
  const { data } = await stack.collection('io.cozy.jobs').find?.({ worker: 'konnector' }, { limit: 2 })
  assert.ok(data.length > 0 && data.every(job => job.worker === 'konnector'))
})

test('an unknown job is not found', async () => {
  assert.equal((await rejection(jobs.get('0123456789abcdef0123456789abcdef'))).status, 404)
})
