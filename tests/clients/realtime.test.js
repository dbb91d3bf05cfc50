'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { default: CozyRealtime } = require('cozy-realtime/dist/CozyRealtime')
const { client, stack, fresh } = require('./support')

// The client expects a browser's; Node has its own from version 22 on.
globalThis.WebSocket ??= require('ws')

test('what happens to a type, and to one document, is told', async t => {
  const realtime = new CozyRealtime({ client })
  t.after(() => realtime.stop())
  const doctype = fresh('io.cozy.realtime')
  const { data: own } = await stack.collection(doctype).create({ label: 'first' })
  const told = []
  const tell = verb => doc => told.push([verb, doc._id, doc.label])
  const ready = new Promise(resolve => realtime.on('ready', resolve))
  realtime.subscribe('created', doctype, tell('created'))
  realtime.subscribe('updated', doctype, own._id, tell('updated'))
  realtime.subscribe('deleted', doctype, own._id, tell('deleted'))
  await ready

  // Nothing says that a subscription has been heard, so the first event is repeated until it arrives.
  let other
  while (told.length === 0) {
    ;({ data: other } = await stack.collection(doctype).create({ label: 'other' }))
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  assert.deepEqual(told[0], ['created', other._id, 'other'])
  told.length = 0

  await stack.collection(doctype).update({ ...other, label: 'not asked for' })
  const { data: second } = await stack.collection(doctype).update({ ...own, label: 'second' })
  await stack.collection(doctype).destroy(second)
  await realtime.sendNotification(doctype, own._id, { label: 'for those who asked for notifications' })
  while (told.length < 2) await new Promise(resolve => setTimeout(resolve, 20))
  assert.deepEqual(told, [
    ['updated', own._id, 'second'],
    ['deleted', own._id, 'second']
  ])
})

test('a notification is told and stored nowhere', async t => {
  const realtime = new CozyRealtime({ client })
  t.after(() => realtime.stop())
  const doctype = fresh('io.cozy.realtime')
  let heard
  realtime.subscribe('notified', doctype, 'one', doc => (heard = doc))
  while (!heard) {
    await realtime.sendNotification(doctype, 'one', { hello: 'world' })
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  // The client wraps what it sends, and does not unwrap what it hears.
  assert.deepEqual(heard.data, { hello: 'world' })
  const { data } = await stack.collection(doctype).all()
  assert.deepEqual(data, [])
})
