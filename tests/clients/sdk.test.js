'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const path = require('node:path')
const { test } = require('node:test')
const { fileURLToPath } = require('node:url')
const { stack, uri, slug, source, account, vendor, konnectorToken, fresh } = require('./support')

const accounts = stack.collection('io.cozy.accounts')
const operations = stack.collection('io.cozy.bank.operations')

/** One of the bills that the vendor shows first. */
const BILL = { amount: 858.55, date: '2026-11-03' }

/** Runs the konnector as Cozy does, with a person who gives the code that it asks for. */
async function run(folder) {
  const konnector = spawn(process.execPath, [path.join(__dirname, 'sdk/konnector.js')], {
    cwd: fileURLToPath(source),
    env: {
      ...process.env,
      NODE_ENV: 'development',
      COZY_URL: uri,
      COZY_CREDENTIALS: konnectorToken,
      COZY_FIELDS: JSON.stringify({ konnector: slug, account, folder_to_save: folder }),
      COZY_PARAMETERS: JSON.stringify({ url: vendor }),
      COZY_JOB_MANUAL_EXECUTION: 'true'
    }
  })
  let output = ''
  for (const stream of [konnector.stdout, konnector.stderr]) stream.on('data', data => (output += data))
  const ended = new Promise(resolve => konnector.on('close', resolve))
  let code
  ended.then(status => (code = status))
  while (code === undefined) {
    const { data } = await accounts.get(account)
    if (data?.state === 'TWOFA_NEEDED.SMS' && !data.twoFACode) await accounts.update({ ...data, twoFACode: '123456' })
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  assert.equal(code, 0, output)
}

/** How much there is of what the konnector saves. */
async function counts(folder) {
  const { included } = await stack.collection('io.cozy.files').statById(folder)
  const count = async doctype => (await stack.collection(doctype).all({ limit: null })).data.length
  return {
    files: included.filter(file => file.attributes.type === 'file').length,
    directories: included.filter(file => file.attributes.type === 'directory').length,
    bills: (await stack.collection('io.cozy.bills').all({ limit: null })).data.filter(bill => bill.vendorRef && bill.filename).length,
    identities: await count('io.cozy.identities'),
    notes: await count('io.cozy.notes.bank101')
  }
}

test('a konnector of the SDK saves bills, files and data, once', { timeout: 90_000 }, async () => {
  const { data: directory } = await stack
    .collection('io.cozy.files')
    .createDirectory({ name: fresh('Bank101'), dirId: 'io.cozy.files.root-dir' })
  const { data: operation } = await operations.create({
    label: 'BANK101 SA PRLV',
    amount: -BILL.amount,
    date: `${BILL.date}T12:00:00Z`,
    cozyCategoryId: '400100',
    cozyCategoryProba: 1
  })
  await run(directory._id)
  const first = await counts(directory._id)
  assert.ok(first.files > 0 && first.bills >= first.files, JSON.stringify(first))
  assert.deepEqual({ directories: first.directories, notes: first.notes }, { directories: 1, notes: 3 })
  await run(directory._id)
  assert.deepEqual(await counts(directory._id), first)
  const linked = (await operations.get(operation._id)).data.bills
  assert.equal(linked?.length, 1, JSON.stringify(linked))
  const { data } = await accounts.get(account)
  assert.deepEqual(data.data, { runs: 2, code: '123456' })
  assert.equal(data.state, null)
})
