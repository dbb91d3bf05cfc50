'use strict'

// A konnector as its authors write them for Cozy.

const {
  BaseKonnector,
  requestFactory,
  saveFiles,
  hydrateAndFilter,
  addData,
  updateOrCreate,
  mkdirp
} = require('cozy-konnector-libs')

const request = requestFactory({ cheerio: true, json: false, jar: true })
const NOTES = 'io.cozy.notes.bank101'

module.exports = new BaseKonnector(start)

async function start(fields, { url }) {
  await this.deactivateAutoSuccessfulLogin()
  await this.signin({
    url: `${url}/login`,
    formSelector: '#login',
    formData: { login: fields.login, password: fields.password },
    requestInstance: request,
    validate: (status, $) => $('#account-data').length === 1
  })
  await this.notifySuccessfulLogin()
  const code = await this.waitForTwoFaCode({ type: 'sms', heartBeat: 100, endTime: Date.now() + 20_000 })

  const home = await request(`${url}/account/home`)
  const [contract] = JSON.parse(home('#account-data').html()).contracts
  const bills = await read(url, `${url}${contract.bills}`)
  await this.saveBills(bills, fields, {
    identifiers: ['bank101'],
    contentType: 'application/pdf',
    fileIdAttributes: ['vendorRef'],
    requestInstance: request
  })
  await this.saveIdentity({ name: { familyName: 'Lovelace', givenName: 'Ada' } }, fields.login)

  const letters = await mkdirp(fields.folderPath, 'Letters')
  await saveFiles(
    [{ filename: 'welcome.txt', filestream: 'Welcome to Bank101', vendorRef: 'welcome' }],
    { ...fields, folderPath: letters.attributes.path },
    { contentType: 'text/plain', fileIdAttributes: ['vendorRef'], sourceAccount: this.accountId, sourceAccountIdentifier: fields.login }
  )

  const notes = [{ number: 1 }, { number: 2 }]
  await addData(await hydrateAndFilter(notes, NOTES, { keys: ['number'] }), NOTES)
  await updateOrCreate([{ number: 2, text: 'changed' }, { number: 3 }], NOTES, ['number'])

  const { runs = 0 } = this.getAccountData()
  await this.saveAccountData({ runs: runs + 1, code })
}

const MONTHS = ['jan', 'fév', 'mar', 'avr', 'mai', 'juin', 'juil', 'aoû', 'sep', 'oct', 'nov', 'déc']

/** A date such as 3 novembre 2026. */
function date(text) {
  const [day, month, year] = text.trim().split(/\s+/)
  return new Date(Date.UTC(Number(year), MONTHS.findIndex(prefix => month.startsWith(prefix)), parseInt(day)))
}

/** The bills of one page: as many as the test needs. */
async function read(url, page) {
  const $ = await request(page)
  return Array.from($('tr.bill'), row => {
    return {
      vendor: 'Bank101',
      vendorRef: $('.reference', row).text().trim(),
      amount: Number($('.amount', row).text().replace(/[^\d,.]/g, '').replace(',', '.')),
      currency: 'EUR',
      date: date($('.date', row).text()),
      fileurl: new URL($('.document a', row).attr('href'), url).href,
      filename: `${$('.reference', row).text().trim()}.pdf`
    }
  })
}
