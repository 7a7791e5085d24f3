// Waits of the scripts that talk to several execution clients.
const assert = require('node:assert/strict')

const INTERVAL_MS = 300

/**
 * Repeats `look` until it returns something else than null, at most until `end`. A client may fail to answer for a moment;
 * an assertion that fails ends the wait.
 */
async function poll(end, what, look) {
  for (;;) {
    let why = 'not yet'
    try {
      const found = await look()
      if (found !== null) return found
    } catch (error) {
      if (error.code === 'ERR_ASSERTION') throw error
      why = error.error?.message ?? error.message
    }
    assert(Date.now() < end, `waited in vain for ${what}: ${why}`)
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS))
  }
}

module.exports = { poll }
