'use strict'

// What the tests share: where the server is, and clients that are logged into it.

const assert = require('node:assert/strict')
const { default: StackClient } = require('cozy-stack-client')
const { default: CozyClient } = require('cozy-client')

const required = name => {
  const value = process.env[name]
  assert.ok(value, `the variable ${name} is not set; tests/tests/clients.rs runs these tests`)
  return value
}

const uri = required('COZY_URL')
const token = required('COZY_TOKEN')

const stack = new StackClient({ uri, token })
const client = new CozyClient({ uri, token, schema: {}, store: false })

/** What a promise is rejected with. */
const rejection = promise => promise.then(value => assert.fail(`it succeeded: ${JSON.stringify(value)}`), error => error)

/** A name that no other test uses. */
let names = 0
const fresh = prefix => `${prefix}.t${process.pid}.n${(names += 1)}`

module.exports = {
  uri,
  token,
  stack,
  client,
  rejection,
  fresh,
  /** The konnector that the server has, its source, and an account for it. */
  slug: 'bank101',
  source: required('KONNECTOR_SOURCE'),
  account: required('KONNECTOR_ACCOUNT'),
  /** A token of the konnector's own, and the address of the site that it reads. */
  konnectorToken: required('KONNECTOR_TOKEN'),
  vendor: required('KONNECTOR_VENDOR')
}
