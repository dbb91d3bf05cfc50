'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { Client } = require('cozy-client-js')
const { uri, token, slug, account, fresh, rejection } = require('./support')

const cozy = new Client({ cozyURL: uri, token })

test('documents', async () => {
  const doctype = fresh('io.cozy.todos')
  const made = await cozy.data.create(doctype, { label: 'one' })
  const changed = await cozy.data.updateAttributes(doctype, made._id, { label: 'two' })
  assert.equal((await cozy.data.find(doctype, made._id)).label, 'two')
  const index = await cozy.data.defineIndex(doctype, ['label'])
  const found = await cozy.data.query(index, { selector: { label: { $gt: null } } })
  assert.deepEqual(found.map(todo => todo.label), ['two'])
  assert.equal((await cozy.data.findAll(doctype)).length, 1)
  await cozy.data.delete(doctype, changed)
  assert.equal((await rejection(cozy.data.find(doctype, made._id))).status, 404)
})

test('files', async () => {
  const directory = await cozy.files.createDirectoryByPath(`/${fresh('Old')}/Client`)
  const made = await cozy.files.create('content', { name: 'a.txt', dirID: directory._id, contentType: 'text/plain' })
  assert.equal((await cozy.files.statByPath(`${directory.attributes.path}/a.txt`))._id, made._id)
  assert.equal(await (await cozy.files.downloadById(made._id)).text(), 'content')
  const renamed = await cozy.files.updateAttributesById(made._id, { name: 'b.txt' })
  assert.equal(renamed.attributes.name, 'b.txt')
  await cozy.files.updateById(made._id, 'other', { contentType: 'text/plain' })
  assert.equal(await (await cozy.files.downloadByPath(`${directory.attributes.path}/b.txt`)).text(), 'other')
  const link = await cozy.files.getDownloadLinkById(made._id)
  assert.equal(await (await fetch(new URL(link, uri))).text(), 'other')
  await cozy.files.trashById(made._id)
  await cozy.files.restoreById(made._id)
  await cozy.files.trashById(made._id)
  await cozy.files.destroyById(made._id)
})

test('references', async () => {
  const album = await cozy.data.create(fresh('io.cozy.albums'), { name: 'Summer' })
  const made = await cozy.files.create('picture', { name: fresh('picture') + '.txt' })
  await cozy.data.addReferencedFiles({ ...album, type: album._type }, made._id)
  assert.deepEqual(await cozy.data.listReferencedFiles({ ...album, type: album._type }), [made._id])
  await cozy.data.removeReferencedFiles({ ...album, type: album._type }, made._id)
})

test('jobs', async () => {
  const job = await cozy.jobs.create('konnector', { konnector: slug, account })
  assert.equal((await cozy.fetchJSON('GET', `/jobs/${job._id ?? job.id}`)).attributes.worker, 'konnector')
  assert.ok(Array.isArray(await cozy.jobs.queued('konnector')))
})
