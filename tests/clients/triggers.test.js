'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { stack, slug, account, rejection } = require('./support')

const triggers = stack.collection('io.cozy.triggers')
const weekly = { type: '@cron', arguments: '0 0 3 * * 1', worker: 'konnector', message: { konnector: slug, account } }

test('a trigger is created, changed and deleted', async () => {
  const { data: made } = await triggers.create({ ...weekly, type: '@in', arguments: '100h' })
  assert.equal(made.attributes.type, '@in')
  const { data: again } = await triggers.get(made._id)
  assert.equal(again.attributes.worker, 'konnector')

  const { data: cron } = await triggers.create(weekly)
  const { data: changed } = await triggers.update({ _id: cron._id, arguments: '0 0 4 * * 2' })
  assert.equal(changed.attributes.arguments, '0 0 4 * * 2')

  for (const trigger of [made, cron]) await triggers.destroy(trigger)
  assert.equal((await rejection(triggers.get(made._id))).status, 404)
})

test('a trigger is launched', async () => {
  const { data: trigger } = await triggers.create({ ...weekly, type: '@client', worker: 'client' })
  const { data: job } = await triggers.launch(trigger)
  assert.equal(job.attributes.worker, 'client')
  await triggers.destroy(trigger)
})

test('triggers are found by their worker and type', async () => {
  const { data: all } = await triggers.all()
  const { data: found } = await triggers.find({ worker: 'konnector', type: '@cron' })
  assert.ok(found.length > 0 && found.length <= all.length)
  assert.ok(found.every(trigger => trigger.attributes.type === '@cron'))
  const { data: none } = await triggers.find({ worker: 'nobody', type: '@cron' })
  assert.deepEqual(none, [])
})
