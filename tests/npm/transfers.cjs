// Transfers through several execution clients of one chain: `node transfers.cjs CHAIN_ID ROUNDS URL..`. In every round,
// each client is sent a transfer of an account of its own; all must be mined and be the same at every client. In every
// second round they transfer nothing, to fresh accounts and precompiled contracts, which stay out of the state.
const assert = require('node:assert/strict')
const { Wallet, parseUnits } = require('ethers')
const { connect, poll, reason, submit } = require('./clients.cjs')

const [chainId, rounds, ...urls] = process.argv.slice(2)
// The first accounts of the development chain.
const KEYS = [
  '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
  '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
  '0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
  '0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6',
]
const VALUE = 1_000_000_007n
const FEES = { type: 2, maxFeePerGas: parseUnits('20', 'gwei'), maxPriorityFeePerGas: parseUnits('1', 'gwei') }
const LEGACY_FEES = { type: 0, gasPrice: parseUnits('20', 'gwei') }
// Identity, SHA-256, RIPEMD-160 and the recovery of a signer; empty input costs at most 3,000 gas.
const PRECOMPILES = [4, 2, 3, 1].map((number) => `0x${number.toString(16).padStart(40, '0')}`)
const PRECOMPILE_GAS = 24_000n
const PATIENCE_MS = 180_000
// In memory, ethrex 24.0.0 stores all receipts of a block and finds the first one only (lambdaclass/ethrex, #7137).
const UNREADABLE_RECEIPTS = /Expected \d+ receipts, got 1$/
const providers = connect(chainId, urls)

/** The hash of the block that has a transaction at a client; it covers the receipts, also those that ethrex does not find. */
async function blockOf(provider, hash) {
  const client = `client ${providers.indexOf(provider)}`
  try {
    const receipt = await provider.getTransactionReceipt(hash)
    if (receipt === null) throw new Error('no receipt')
    assert.equal(receipt.status, 1, `${hash} failed at ${client}`)
    return receipt.blockHash
  } catch (error) {
    if (error.code === 'ERR_ASSERTION') throw error
    const why = reason(error)
    if (UNREADABLE_RECEIPTS.test(why)) {
      const transaction = await provider.send('eth_getTransactionByHash', [hash])
      if (Number(transaction?.transactionIndex ?? 0) > 0) return transaction.blockHash
    }
    throw new Error(`${client}: ${why}`)
  }
}

async function main() {
  const recipient = Wallet.createRandom().address
  let expected = 0n
  for (let round = 1; round <= Number(rounds); round++) {
    const end = Date.now() + PATIENCE_MS
    const transferred = round % 2 === 1 ? VALUE : 0n
    const target = (index) => {
      if (transferred > 0n) return { to: recipient, gasLimit: 21_000n }
      if (index % 2 === 0) return { to: Wallet.createRandom().address, gasLimit: 21_000n }
      return { to: PRECOMPILES[(round + index) % PRECOMPILES.length], gasLimit: PRECOMPILE_GAS }
    }
    const sent = await Promise.all(
      providers.map(async (provider, index) => {
        const wallet = new Wallet(KEYS[index])
        const nonce = await poll(end, `a nonce of client ${index}`, () => provider.getTransactionCount(wallet.address))
        const fees = index % 3 === 1 ? LEGACY_FEES : FEES
        const transfer = { ...target(index), chainId, value: transferred, nonce, ...fees }
        return submit(end, provider, await wallet.signTransaction(transfer))
      }),
    )
    expected += transferred * BigInt(sent.length)
    for (const hash of sent) {
      // A block that is not final may be replaced, at one client sooner than at another.
      await poll(end, `${hash} in the same block of all clients`, async () => {
        const blocks = await Promise.all(providers.map((provider) => blockOf(provider, hash)))
        if (new Set(blocks).size > 1) throw new Error(`it is in the blocks ${blocks}`)
        return blocks[0]
      })
    }
    for (const [index, provider] of providers.entries()) {
      await poll(end, `a balance of ${expected} at client ${index}`, async () => {
        const balance = await provider.getBalance(recipient)
        if (balance !== expected) throw new Error(`it is ${balance}`)
        return balance
      })
    }
    console.log(`round ${round}: ${sent.length} transfers are the same at ${providers.length} clients`)
  }
  console.log(JSON.stringify({ recipient, balance: `${expected}`, transfers: Number(rounds) * urls.length }))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
