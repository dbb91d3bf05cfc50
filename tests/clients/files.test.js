'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { stack, uri, rejection, fresh } = require('./support')

const files = stack.collection('io.cozy.files')
const ROOT = 'io.cozy.files.root-dir'
const text = content => new TextEncoder().encode(content).buffer
const file = (content, attributes = {}) =>
  files.createFile(text(content), { name: fresh('note') + '.txt', dirId: ROOT, contentType: 'text/plain', ...attributes })

test('a file is created, read, given another content, and shown', async () => {
  const { data: made } = await file('hello', { metadata: { subject: 'greeting' } })
  assert.equal(made.attributes.size, '5')
  assert.equal(made.attributes.class, 'text')
  assert.equal(await (await files.fetchFileContentById(made._id)).text(), 'hello')
  const { data: changed } = await files.updateFile(text('hello again'), { fileId: made._id, name: made.attributes.name, contentType: 'text/plain' })
  assert.equal(changed.attributes.size, '11')
  const { data: shown } = await files.statById(made._id)
  assert.equal(shown._rev ?? shown.meta.rev, changed.meta.rev)
  assert.equal((await files.get(made._id)).data._id, made._id)
})

test('a name is taken once', async () => {
  const name = fresh('taken') + '.txt'
  await file('a', { name })
  assert.equal((await rejection(file('b', { name }))).status, 409)
})

test('a directory is made, found by its path, and made once only', async () => {
  const path = `/${fresh('Administrative')}/Bank/2026`
  const made = await files.createDirectoryByPath(path)
  assert.equal(made.data.attributes.path, path)
  assert.equal(await files.ensureDirectoryExists(path), made.data._id)
  const { data, included } = await files.statByPath(path)
  assert.equal(data._id, made.data._id)
  assert.deepEqual(included ?? [], [])
  await files.createFile(text('x'), { name: 'x.txt', dirId: data._id })
  assert.equal((await files.statById(data._id)).included.length, 1)
  assert.equal((await rejection(files.statByPath(`${path}/nothing`))).status, 404)
})

test('files are uploaded to a path', async () => {
  const path = `/${fresh('Uploads')}`
  await files.createDirectoryByPath(path)
  const { data } = await files.upload(new File(['up'], 'up.txt'), path)
  assert.equal(data.attributes.size, '2')
  assert.equal((await files.statByPath(`${path}/up.txt`)).data._id, data._id)
})

test('files are found by a selector', async () => {
  const { data: directory } = await files.createDirectory({ name: fresh('found'), dirId: ROOT })
  for (const name of ['a.txt', 'b.txt', 'c.txt']) await file(name, { name, dirId: directory._id })
  const page = await files.find({ dir_id: directory._id, name: { $gt: '' } }, { sort: [{ dir_id: 'asc' }, { name: 'asc' }], indexedFields: ['dir_id', 'name'], limit: 2 })
  assert.deepEqual(page.data.map(found => found.attributes.name), ['a.txt', 'b.txt'])
  assert.equal(page.next, true)
  const { data } = await files.find({ dir_id: directory._id, name: { $gt: '' } }, { indexedFields: ['dir_id', 'name'], bookmark: page.bookmark, limit: 2 })
  assert.deepEqual(data.map(found => found.attributes.name), ['c.txt'])
  assert.equal((await files.getAll(page.data.map(found => found._id))).data.length, 2)
})

test('a file goes into the trash, back, and for good', async () => {
  const { data: made } = await file('rubbish')
  const { data: trashed } = await files.destroy(made)
  assert.equal(trashed.attributes.trashed, true)
  const { data: restored } = await files.restore(made._id)
  assert.equal(restored.attributes.trashed ?? false, false)
  await files.destroy(restored)
  await files.deleteFilePermanently(made._id)
  assert.equal((await rejection(files.statById(made._id))).status, 404)
  await files.emptyTrash()
})

test('names, places, tags and metadata are changed', async () => {
  const { data: made } = await file('draft')
  const { data: directory } = await files.createDirectory({ name: fresh('there'), dirId: ROOT })
  const { data: moved } = await files.updateAttributes(made._id, { name: 'final.txt', dir_id: directory._id, tags: ['tax'] })
  assert.equal(moved.attributes.name, 'final.txt')
  assert.equal(moved.attributes.dir_id, directory._id)
  assert.deepEqual(moved.attributes.tags, ['tax'])
  assert.equal((await files.isChildOf(made._id, directory._id)), true)
})

test('a file is copied', async () => {
  const { data: made } = await file('original')
  const { data: copy } = await files.copy(made._id, fresh('copy') + '.txt', ROOT)
  assert.notEqual(copy._id, made._id)
  assert.equal(await (await files.fetchFileContentById(copy._id)).text(), 'original')
})

test('a link downloads a file without a token', async () => {
  const { data: made } = await file('for everybody')
  for (const link of [
    await files.getDownloadLinkById(made._id, made.attributes.name),
    await files.getDownloadLinkByPath(`/${made.attributes.name}`)
  ]) {
    const answer = await fetch(new URL(link, uri))
    assert.equal(answer.status, 200, link)
    assert.equal(await answer.text(), 'for everybody')
  }
})

test('documents refer to files, from both sides', async () => {
  const { data: album } = await stack.collection(fresh('io.cozy.photos.albums')).create({ name: 'Summer' })
  const [{ data: one }, { data: two }] = [await file('one'), await file('two')]
  await files.addReferencesTo(album, [one])
  await files.addReferencedBy(two, [album])
  const { data: both } = await files.findReferencedBy(album)
  assert.deepEqual(both.map(found => found._id ?? found.id).sort(), [one._id, two._id].sort())
  await files.removeReferencesTo(album, [one])
  await files.removeReferencedBy(two, [album])
  assert.deepEqual((await files.findReferencedBy(album)).data, [])
})

test('metadata is sent before the file', async () => {
  const { data: metadata } = await files.createFileMetadata({ category: 'report', label: 'electricity' })
  const { data: made } = await file('with metadata', { metadata: { label: 'electricity' } })
  assert.equal(made.attributes.metadata.label, 'electricity')
  const { data: changed } = await files.updateMetadataAttribute(made._id, { label: 'gas' })
  assert.equal(changed.attributes.metadata.label, 'gas')
  assert.ok(metadata.id)
})

test('files are packed into an archive', async () => {
  const { data: made } = await file('packed')
  const link = await files.createArchiveLinkByIds({ ids: [made._id], name: 'papers' })
  const answer = await fetch(new URL(link, uri))
  assert.equal(answer.headers.get('content-type'), 'application/zip')
})

test('changes of files are followed', async () => {
  const { data: made } = await file('changing')
  const { newLastSeq, results } = await files.fetchChanges({ since: '0', include_docs: true })
  assert.ok(results.some(({ id }) => id === made._id))
  assert.ok(newLastSeq)
})
