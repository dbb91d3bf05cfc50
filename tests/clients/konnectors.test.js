'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { stack, slug, source, account } = require('./support')

const konnectors = stack.collection('io.cozy.konnectors')

test('konnectors are listed', async () => {
  const { data, meta } = await konnectors.all()
  assert.deepEqual(data.map(konnector => konnector.slug), [slug])
  assert.equal(data[0]._id, `io.cozy.konnectors/${slug}`)
  assert.equal(data[0].state, 'ready')
  assert.equal(meta.count, 1)
})

test('a konnector is shown', async () => {
  const { data } = await konnectors.get(`io.cozy.konnectors/${slug}`)
  assert.equal(data.slug, slug)
  assert.equal(data.links.self, `/konnectors/${slug}`)
})

test('a konnector is launched through its trigger', async () => {
  const triggers = await konnectors.findTriggersBySlug(slug)
  assert.equal(triggers.length, 1)
  assert.equal(triggers[0].message.account, account)
  const { data: job } = await konnectors.launch(slug, { accountId: account })
  const ended = await stack.collection('io.cozy.jobs').waitFor(job._id, { delay: 100 })
  assert.equal(ended.state, 'done', JSON.stringify(ended))
})

test('a konnector is updated', async () => {
  const { data } = await konnectors.update(slug, { source: encodeURIComponent(source) })
  assert.equal(data[0].attributes.slug, slug)
})

test('an icon is read', async () => {
  const answer = await stack.fetch('GET', `/konnectors/${slug}/icon`)
  assert.equal(answer.headers.get('content-type'), 'image/svg+xml')
})
