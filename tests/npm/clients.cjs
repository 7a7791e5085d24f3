// Several execution clients of one chain: connections and waits.
const assert = require('node:assert/strict')
const { Agent } = require('node:http')
const { FetchRequest, JsonRpcProvider, Transaction } = require('ethers')

const INTERVAL_MS = 300

/** Providers of the clients at these URLs. */
function connect(chainId, urls) {
  // A kept connection may be closed by the server just when a request is sent on it.
  FetchRequest.registerGetUrl(FetchRequest.createGetUrlFunc({ agent: new Agent({ keepAlive: false }) }))
  const options = { staticNetwork: true, cacheTimeout: -1, batchMaxCount: 1 }
  return urls.map((url) => new JsonRpcProvider(url, Number(chainId), options))
}

const reason = (error) => error.error?.message ?? error.message

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
      why = reason(error)
    }
    assert(Date.now() < end, `waited in vain for ${what}: ${why}`)
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS))
  }
}

/** Sends a signed transaction and returns its hash. A client may have taken it although its answer did not arrive. */
function submit(end, provider, raw) {
  const { hash } = Transaction.from(raw)
  return poll(end, `${hash} to be taken`, async () => {
    try {
      assert.equal(await provider.send('eth_sendRawTransaction', [raw]), hash)
    } catch (error) {
      if (!/already/i.test(reason(error))) throw error
    }
    return hash
  })
}

module.exports = { connect, poll, reason, submit }
