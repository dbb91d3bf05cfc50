'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { default: StackClient } = require('cozy-stack-client')
const { stack, uri, rejection, fresh } = require('./support')

const permissions = stack.collection('io.cozy.permissions')

test('the rules of the token are read', async () => {
  const { data } = await permissions.getOwnPermissions()
  assert.equal(data.attributes.type, 'cli')
  assert.ok(Object.keys(data.attributes.permissions).length > 0)
})

test('a file is shared by a link and taken back', async () => {
  const files = stack.collection('io.cozy.files')
  const { data: file } = await files.createFile(new TextEncoder().encode('shared').buffer, { name: fresh('shared') + '.txt', dirId: 'io.cozy.files.root-dir' })
  const { data: shared } = await permissions.createSharingLink({ ...file, _type: 'io.cozy.files' }, { verbs: ['GET'] })
  const [code] = Object.values(shared.attributes.shortcodes ?? shared.attributes.codes)
  const guest = new StackClient({ uri, token: Object.values(shared.attributes.codes)[0] })
  assert.equal(await (await guest.collection('io.cozy.files').fetchFileContentById(file._id)).text(), 'shared')
  assert.equal((await rejection(guest.collection('io.cozy.bills').all())).status, 403)
  assert.ok(code)
  await permissions.revokeSharingLink({ ...file, _type: 'io.cozy.files' })
  assert.ok([400, 401, 403].includes((await rejection(guest.collection('io.cozy.files').statById(file._id))).status))
})
