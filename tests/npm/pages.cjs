// The simulator's pages in Chromium: `node pages.cjs CHROMIUM PASSING FAILING SWEEP SCREENSHOTS`. Prints what it does, then
// `ok`; any assertion that fails is the exit code.
const assert = require('node:assert/strict')
const path = require('node:path')
const { pathToFileURL } = require('node:url')
const puppeteer = require('puppeteer-core')

const [chromium, passing, failing, sweep, screenshots] = process.argv.slice(2)
const VIEWPORT = { width: 1440, height: 900 }

/** Opens a page; whatever it complains of, and whatever it asks the world for, fails the test. */
async function open(browser, file) {
  const page = await browser.newPage()
  await page.setViewport(VIEWPORT)
  const complaints = []
  page.on('console', (message) => {
    if (['error', 'warn'].includes(message.type())) complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('request', (request) => {
    if (!/^(file|data):/.test(request.url())) complaints.push(`asks for ${request.url()}`)
  })
  await page.goto(pathToFileURL(file).href)
  await page.waitForSelector('body[data-ready]')
  return { page, complaints, shot: (name) => page.screenshot({ path: path.join(screenshots, `${name}.png`) }) }
}

/** How many different colours a canvas shows, and what share of it is not the most common one. */
function painted(page, id) {
  return page.evaluate((id) => {
    const canvas = document.getElementById(id)
    const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)
    const counts = new Map()
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1)
    return { colours: counts.size, share: 1 - Math.max(...counts.values()) / pixels.length }
  }, id)
}

const view = (page) => page.evaluate(() => window.page.view())
const listed = (page) => page.evaluate(() => window.page.listed())
const settled = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)))))
const width = ([from, to]) => to - from

async function isMarked(page, id) {
  const { colours, share } = await painted(page, id)
  assert(colours > 8 && share > 0.02, `${id} is blank: ${colours} colours, ${share}`)
}

async function passingRun(browser) {
  const { page, complaints, shot } = await open(browser, passing)
  for (const id of ['lanes', 'overview', 'axis']) await isMarked(page, id)
  assert.equal(await page.$eval('#verdict', (node) => node.textContent), 'passed')
  assert(await page.$eval('#violation', (node) => node.hidden))
  const fits = await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight)
  assert(fits, 'the page does not fit into its window')
  await shot('passing')

  const whole = await view(page)
  const box = await (await page.$('#lanes')).boundingBox()
  await page.mouse.move(box.x + box.width * 0.4, box.y + 80)
  const began = Date.now()
  const wheels = 24
  for (let turn = 0; turn < wheels; turn += 1) {
    await page.mouse.wheel({ deltaY: -60 })
    await settled(page)
  }
  console.log(`${((Date.now() - began) / wheels / 3).toFixed(1)} ms a frame while zooming`)
  const zoomed = await view(page)
  assert(width(zoomed) < width(whole) / 4 && zoomed[0] > whole[0], `the wheel zooms: ${whole} to ${zoomed}`)
  await page.mouse.down()
  await page.mouse.move(box.x + box.width * 0.2, box.y + 80, { steps: 5 })
  await page.mouse.up()
  await settled(page)
  const dragged = await view(page)
  assert(dragged[0] > zoomed[0] && Math.abs(width(dragged) - width(zoomed)) < 1, 'a drag moves')
  await page.focus('#lanes')
  await page.keyboard.press('ArrowRight')
  await settled(page)
  assert((await view(page))[0] > dragged[0], 'arrow keys move')
  await page.keyboard.press('-')
  await settled(page)
  assert(width(await view(page)) > width(dragged), 'minus zooms out')
  await page.click('#zoom-in')
  await settled(page)

  // Hover shows what is there, in the words of the table.
  const seen = await page.evaluate(() => window.page.inView().find((one) => one.what === 'final' && one.where.startsWith('node')))
  assert(seen, 'a final block is in view')
  const [x, y] = await page.evaluate((number) => window.page.place(number), seen.number)
  const stage = await (await page.$('#lanes')).boundingBox()
  await page.mouse.move(stage.x + x, stage.y + y)
  await settled(page)
  const tip = await page.$eval('#tip', (node) => (node.hidden ? '' : node.innerText))
  assert(tip.includes(`${seen.where}: final`) && tip.includes('height'), `the tip says ${JSON.stringify(tip)}`)
  await page.mouse.click(stage.x + x, stage.y + y)
  await settled(page)
  const row = await page.$eval('#rows .is-selected', (node) => node.innerText)
  assert(row.includes(seen.where), `the table shows ${row}`)
  assert((await page.$eval('#status', (node) => node.textContent)).includes(seen.where), 'screen readers are told')
  await shot('passing-zoomed')

  const all = await listed(page)
  await page.click('[data-group="approvals"]')
  await settled(page)
  const fewer = await listed(page)
  assert(fewer < all, `a filter hides: ${all} to ${fewer}`)
  await page.click('[data-group="approvals"]')
  const lane = await page.evaluateHandle(() => [...document.querySelectorAll('#gutter button')].find((one) => one.textContent === 'node2'))
  await lane.click()
  await settled(page)
  const ofOne = await page.evaluate(() => window.page.inView().every((one) => one.where.includes('node2')))
  assert(ofOne && (await listed(page)) > 0, 'a lane can be chosen')
  await page.keyboard.press('Escape')
  await settled(page)
  assert.equal(await listed(page), all)
  await page.type('#search', 'proposal')
  await page.waitForFunction((all) => window.page.listed() < all, {}, all)
  const found = await page.evaluate(() => window.page.inView().every((one) => /propos/i.test(`${one.what} ${one.detail}`)))
  assert(found, 'search finds what it says')
  await page.keyboard.press('Escape')

  const before = await painted(page, 'lanes')
  await page.keyboard.press('m')
  await settled(page)
  const after = await painted(page, 'lanes')
  assert(after.colours !== before.colours || after.share !== before.share, 'messages are drawn')
  await shot('passing-messages')
  await page.keyboard.press('m')
  await page.click('#whole')
  await page.click('#theme')
  await settled(page)
  await isMarked(page, 'lanes')
  await shot('passing-dark')
  await page.click('#about')
  await settled(page)
  assert((await page.$eval('#more', (node) => node.innerText)).includes('Counters'))
  await shot('passing-counters')
  assert.deepEqual(complaints, [])
  await page.close()
}

async function failingRun(browser) {
  const { page, complaints, shot } = await open(browser, failing)
  await isMarked(page, 'lanes')
  assert.equal(await page.$eval('#verdict', (node) => node.textContent), 'failed')
  const told = await page.$eval('#violation', (node) => (node.hidden ? '' : node.innerText))
  assert(/at [\d.]+ s, slot \d+/.test(told) && told.length > 120, `the violation is explained: ${told}`)
  const centred = await page.evaluate(() => {
    const [from, to] = window.page.view()
    return Math.abs((from + to) / 2 - data.found.at_ms) < (to - from) / 100
  })
  assert(centred, 'the violation is in the middle')
  assert(await page.$('#rows .is-violation'), 'the violation is in the table')
  await shot('failing')
  await page.click('#whole')
  await settled(page)
  await shot('failing-whole')
  await page.keyboard.press('v')
  await settled(page)
  assert(await page.$('#rows .is-violation.is-selected'), 'v goes to the violation')
  assert.deepEqual(complaints, [])
  await page.close()
}

async function wholeSweep(browser) {
  const { page, complaints, shot } = await open(browser, sweep)
  for (const id of ['grid', 'growth', 'detection', 'speed']) {
    const { colours } = await painted(page, id)
    assert(colours > 3, `${id} is blank`)
  }
  await shot('sweep')
  await page.screenshot({ path: path.join(screenshots, 'sweep-whole.png'), fullPage: true })
  const cells = await page.evaluate(() => window.page.cells())
  const failed = cells.find((cell) => cell.hasPage)
  assert(failed && failed.verdict === 'failed', 'the seed that failed has a page')
  const box = await (await page.$('#grid')).boundingBox()
  await page.mouse.move(box.x + failed.x + 5, box.y + failed.y + 5)
  await settled(page)
  const tip = await page.$eval('#tip', (node) => (node.hidden ? '' : node.innerText))
  assert(tip.includes(`seed ${failed.seed}`) && tip.includes('failed'), `the tip says ${JSON.stringify(tip)}`)
  assert((await page.$eval('#failures', (node) => node.innerText)).includes('cargo sim run'), 'a command runs it again')
  await page.click('#theme')
  await settled(page)
  await shot('sweep-dark')
  await Promise.all([page.waitForNavigation(), page.mouse.click(box.x + failed.x + 5, box.y + failed.y + 5)])
  await page.waitForSelector('body.run[data-ready]')
  assert(page.url().endsWith(path.basename(failing)), 'a click leads to the page about the run')
  assert.deepEqual(complaints, [])
  await page.close()
}

async function main() {
  // Containers seldom allow the browser's own sandbox; the pages are ours.
  const args = ['--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--force-color-profile=srgb']
  const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args })
  try {
    await passingRun(browser)
    console.log('the page of a run that passes')
    await failingRun(browser)
    console.log('the page of a run that fails')
    await wholeSweep(browser)
    console.log('the page of a sweep')
  } finally {
    await browser.close()
  }
  console.log('ok')
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
