// Blob and large transactions in the pools of ethrex and EthereumJS: `node pools.cjs CHAIN_ID ETHREX ETHEREUMJS URL..`.
// The last URL is of a client that gets none directly. Prints what it does; the last line is JSON with the number of those in
// blocks.
const assert = require('node:assert/strict')
const { Transaction, Wallet, parseUnits } = require('ethers')
const { connect, poll, submit } = require('./clients.cjs')

const [chainId, ...urls] = process.argv.slice(2)
// The first accounts of the development chain: of the blob, of the oversize transaction, and of the large ones.
const KEYS = [
  '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
  '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
  '0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
  '0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6',
]
const KIB = 1024
// The largest encoding that pools take.
const LIMIT = 128 * KIB
// Bytes of a transaction beside its data, at most.
const FRAME = 200
// For each of two clients: together they exceed the 8 MiB of a block.
const LARGE = 40
const FEES = { maxFeePerGas: parseUnits('200', 'gwei'), maxPriorityFeePerGas: parseUnits('1', 'gwei') }
// Three full blocks or more, of leaders whose client has them, on a busy machine.
const PATIENCE_MS = 400_000

const providers = connect(chainId, urls)
const [ethrex, ethereumjs] = providers
const reference = providers.at(-1)
const wallets = KEYS.map((key) => new Wallet(key, reference))
const send = (provider, raw) => provider.send('eth_sendRawTransaction', [raw])

/** A blob of zeros: the commitment to the polynomial 0 and its proof are the point at infinity. */
async function blob() {
  const infinity = '0xc0' + '00'.repeat(47)
  const data = '0x' + '00'.repeat(128 * KIB)
  return wallets[0].signTransaction({
    type: 3, chainId, to: wallets[0].address, gasLimit: 21_000n, nonce: await wallets[0].getNonce(), ...FEES,
    maxFeePerBlobGas: parseUnits('10', 'gwei'), blobs: [{ data, commitment: infinity, proof: infinity }],
  })
}

/** A transaction with that many bytes of data. Every fifth is not zero: a full block has some 4.7 MB. */
async function large(wallet, bytes, nonce) {
  const data = Buffer.alloc(bytes)
  for (let at = 0; at < bytes; at += 5) data[at] = 0xa5
  const gasLimit = 21_000 + 4 * bytes + 12 * Math.ceil(bytes / 5)
  const to = '0x00000000000000000000000000000000000a1175'
  return wallet.signTransaction({ type: 2, chainId, to, nonce, gasLimit, data: '0x' + data.toString('hex'), ...FEES })
}

/** The answer of a client in a word or two. */
async function answer(provider, raw) {
  try {
    return (await send(provider, raw)) === Transaction.from(raw).hash ? 'taken' : 'another hash'
  } catch (error) {
    return `refused: ${error.error?.message ?? error.info?.responseBody ?? error.message}`.slice(0, 160)
  }
}

const isPooled = async (provider, { hash, from }) => {
  const { pending } = await provider.send('txpool_content', [])
  const sender = Object.keys(pending).find((address) => address.toLowerCase().endsWith(from.toLowerCase().slice(2)))
  return Object.values(pending[sender] ?? {}).some((transaction) => transaction.hash === hash)
}

/** Waits until the block of a number is final. Returns it. */
const final = (number, end, what) =>
  poll(end, what, async () => {
    // Clients have the last final block as the safe one.
    const safe = await reference.send('eth_getBlockByNumber', ['safe', false])
    if (safe === null || Number(safe.number) < number) return null
    return reference.send('eth_getBlockByNumber', ['0x' + number.toString(16), false])
  })

/** Waits until all transactions are in final blocks from `first` on. Returns these blocks. */
async function mined(hashes, first) {
  const missing = new Set(hashes)
  const blocks = []
  const end = Date.now() + PATIENCE_MS
  for (let number = first; missing.size > 0; number += 1) {
    const block = await final(number, end, `${missing.size} of ${hashes.length} transactions in block ${number} or later`)
    for (const hash of block.transactions) missing.delete(hash)
    blocks.push(block)
  }
  return blocks
}

async function main() {
  // Blocks up to the head may have earlier transactions, and could be replaced if they were not final.
  const head = await reference.getBlockNumber()
  await final(head, Date.now() + PATIENCE_MS, `block ${head} to be final`)
  const first = head + 1
  const sent = []

  const withBlob = Transaction.from(await blob())
  const answers = await Promise.all([ethrex, ethereumjs].map((client) => answer(client, withBlob.serialized)))
  console.log(`a blob transaction: ethrex ${answers[0]}, EthereumJS ${answers[1]}`)
  assert.equal(answers[0], 'taken')
  assert(await isPooled(ethrex, withBlob), 'the pool of ethrex has the blob transaction')

  // Data of the limit, and the rest of the transaction beside it: EthereumJS measures the data alone.
  const nonce = await wallets[1].getNonce()
  for (const bytes of [5 * LIMIT, 2 * LIMIT, LIMIT]) {
    const raw = await large(wallets[1], bytes, nonce)
    const answers = [await answer(ethrex, raw), await answer(ethereumjs, raw)]
    console.log(`${bytes / KIB} KiB of data: ethrex ${answers[0]}, EthereumJS ${answers[1]}`)
    assert.equal(answers.includes('taken'), bytes === LIMIT)
    if (bytes === LIMIT) sent.push(Transaction.from(raw).hash)
  }

  const sending = Date.now() + PATIENCE_MS
  const senders = [[ethrex, wallets[2]], [ethereumjs, wallets[3]]]
  await Promise.all(senders.map(async ([provider, wallet]) => {
    const nonce = await wallet.getNonce()
    for (let index = 0; index < LARGE; index += 1) {
      const raw = await large(wallet, LIMIT - FRAME, nonce + index)
      assert((raw.length - 2) / 2 <= LIMIT)
      sent.push(await submit(sending, provider, raw))
    }
  }))
  console.log(`${sent.length} large transactions are sent, ${((sent.length * LIMIT) / KIB / KIB).toFixed(1)} MiB`)

  const blocks = await mined(sent, first)
  const largest = Math.max(...blocks.map((block) => Number(block.size)))
  const used = blocks.filter((block) => block.transactions.length > 0)
  console.log(`they are in ${used.length} blocks of up to ${(largest / KIB / KIB).toFixed(1)} MiB`)

  // Life goes on: a transfer through every client.
  const recipient = Wallet.createRandom().address
  for (const [index, provider] of providers.entries()) {
    const nonce = await wallets[1].getNonce()
    const transfer = { type: 2, chainId, to: recipient, value: 7n, nonce, gasLimit: 21_000n, ...FEES }
    const hash = await submit(Date.now() + PATIENCE_MS, provider, await wallets[1].signTransaction(transfer))
    blocks.push(...(await mined([hash], Number(blocks.at(-1).number) + 1)))
    sent.push(hash)
    console.log(`a transfer through client ${index} is in block ${Number(blocks.at(-1).number)}`)
  }

  const end = Date.now() + PATIENCE_MS
  for (const [index, provider] of providers.entries()) {
    await poll(end, `the final blocks at client ${index}`, async () => {
      const own = await provider.send('eth_getBlockByNumber', [blocks.at(-1).number, false])
      return own?.hash === blocks.at(-1).hash ? own : null
    })
    for (const { number, hash } of blocks) {
      const { hash: own } = await provider.send('eth_getBlockByNumber', [number, false])
      assert.equal(own, hash, `block ${Number(number)} of client ${index}`)
    }
    assert.equal(await provider.getBalance(recipient), 7n * BigInt(providers.length), `client ${index}`)
  }
  const included = blocks.flatMap((block) => block.transactions)
  assert.deepEqual([...included].sort(), [...sent].sort(), 'blocks have the large transactions and the transfers alone')
  assert(await isPooled(ethrex, withBlob), 'the pool of ethrex still has the blob transaction')
  console.log(JSON.stringify({ transactions: included.length, largest }))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
