// A pool as other people write one: `node miner.cjs URL ADDRESS TARGET_KEY PLACE`. It asks a node for work, builds the
// parent block itself with bitcoinjs-lib (coinbase, tree of chains, header), mines it and submits it. TARGET_KEY is the
// only name of the target that it reads, `target` or `_target`; PLACE is `input` or `output`, the script with the tag.
// Before that it makes the mistakes that pools make and reads what the node says about them.
const assert = require('node:assert/strict')
const { Block, Transaction, crypto } = require('bitcoinjs-lib')

const [url, address, targetKey, place] = process.argv.slice(2)
const MAGIC = Buffer.from('fabe6d6d', 'hex')
/** Levels of the tree of chains: three other chains are mined with this one. */
const LEVELS = 2
const PATIENCE_MS = 60_000

/** A call of JSON-RPC 1.0, as pools make it: without `jsonrpc`. */
async function call(method, ...params) {
  const body = JSON.stringify({ id: 1, method, params })
  const response = await fetch(url, { method: 'POST', body, headers: { 'content-type': 'text/plain' } })
  assert.equal(response.status, 200, `${method}: HTTP ${response.status}`)
  const { result, error, id } = await response.json()
  assert.equal(id, 1)
  if (error !== null) throw Object.assign(new Error(error.message), { code: error.code, data: error.data })
  return result
}

const hash256 = (...parts) => Buffer.from(crypto.hash256(Buffer.concat(parts)))
const reversed = (bytes) => Buffer.from(bytes).reverse()
const uint32 = (number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(number >>> 0)
  return bytes
}

/** The slot of a chain in the tree, as the specification of merged mining computes it. */
function slotOf(nonce, chainId) {
  const step = (number) => (Math.imul(number, 1103515245) + 12345) >>> 0
  return step((step(nonce) + chainId) >>> 0) % 2 ** LEVELS
}

/** Root of a tree of a power of two leaves, and the branch of one of them. */
function tree(leaves, slot) {
  const branch = []
  for (let level = leaves, at = slot; ; level = pairs(level), at >>= 1) {
    if (level.length === 1) return { root: level[0], branch }
    branch.push(level[at ^ 1])
  }
}

function pairs(level) {
  return level.filter((_, at) => at % 2 === 0).map((left, at) => hash256(left, level[2 * at + 1]))
}

/** The branch of the first transaction in a block. */
function coinbaseBranch(transactions) {
  const branch = []
  for (let level = transactions.map((one) => Buffer.from(one.getHash())); level.length > 1; ) {
    if (level.length % 2 === 1) level.push(level.at(-1))
    branch.push(level[1])
    level = pairs(level)
  }
  return branch
}

function coinbase(tag) {
  const transaction = new Transaction()
  const height = Buffer.from('03a0bb0d', 'hex')
  const inInput = place === 'input'
  const script = inInput ? Buffer.concat([height, tag, Buffer.from('/pool/')]) : height
  transaction.addInput(Buffer.alloc(32), 0xffffffff, 0xffffffff, script)
  transaction.addOutput(Buffer.from('51', 'hex'), 312_500_000n)
  transaction.addOutput(inInput ? Buffer.from('RSKBLOCK:0123456789') : tag, 0n)
  return transaction
}

/** Any transaction. */
function payment(number) {
  const transaction = new Transaction()
  transaction.addInput(hash256(uint32(number)), 0)
  transaction.addOutput(Buffer.from('51', 'hex'), BigInt(number))
  return transaction
}

/** A proof of the work in hex. `order` writes the root of the tree into the coinbase. */
function mine(work, order = reversed) {
  const target = BigInt(`0x${reversed(Buffer.from(work[targetKey], 'hex')).toString('hex')}`)
  const nonce = 4711
  const slot = slotOf(nonce, work.chainid)
  const leaves = Array.from({ length: 2 ** LEVELS }, (_, at) => hash256(uint32(at)))
  leaves[slot] = reversed(Buffer.from(work.hash, 'hex'))
  const { root, branch } = tree(leaves, slot)
  const tag = Buffer.concat([MAGIC, order(root), uint32(2 ** LEVELS), uint32(nonce)])
  const transactions = [coinbase(tag), payment(1), payment(2)]

  const block = new Block()
  block.version = 0x20000000
  block.prevHash = hash256(Buffer.from('a parent'))
  block.merkleRoot = Block.calculateMerkleRoot(transactions)
  block.timestamp = Math.floor(Date.now() / 1000)
  block.bits = 0x1703_4219
  const meets = () => BigInt(`0x${reversed(block.getHash()).toString('hex')}`) <= target
  for (block.nonce = 0; !meets(); block.nonce++) assert.ok(block.nonce < 10_000_000, 'the target is too hard for a test')

  const branches = [
    [coinbaseBranch(transactions), 0],
    [branch, slot],
  ]
  const encoded = branches.flatMap(([hashes, index]) => [Buffer.from([hashes.length]), ...hashes, uint32(index)])
  const parent = Buffer.from(block.getHash())
  return Buffer.concat([transactions[0].toBuffer(), parent, ...encoded, block.toBuffer(true)]).toString('hex')
}

async function refusal(...params) {
  try {
    const result = await call('submitauxblock', ...params)
    throw new assert.AssertionError({ message: `${params} is answered with ${result}` })
  } catch (error) {
    if (error.code === 'ERR_ASSERTION') throw error
    return error
  }
}

/** The node's work, once it has any. */
async function createWork() {
  for (const end = Date.now() + PATIENCE_MS; ; ) {
    try {
      return await call('createauxblock', address)
    } catch (error) {
      if (error.code !== -10 || Date.now() > end) throw error
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  }
}

async function main() {
  const work = await createWork()
  const internal = reversed(Buffer.from(work.hash, 'hex')).toString('hex')
  assert.equal(work[targetKey].length, 64)

  const wrongOrder = await refusal(work.hash, mine(work, (root) => root))
  assert.match(wrongOrder.message, /chain root.*internal order: write it reversed/)
  assert.ok(wrongOrder.message.includes(work.hash) && wrongOrder.message.includes(internal), wrongOrder.message)
  assert.equal(wrongOrder.data.rule, 'chain root')
  const wrongHash = await refusal(internal, mine(work))
  assert.match(wrongHash.message, /block hash unknown.*internal byte order/)
  const cut = await refusal(work.hash, mine(work).slice(2))
  assert.match(cut.message, /rule "format"/)

  const proof = mine(work)
  assert.equal(await call('submitauxblock', work.hash, proof), true)
  assert.equal(await call('submitauxblock', work.hash, proof), true, 'a repetition is answered as the first one')
  for (const end = Date.now() + PATIENCE_MS; ; ) {
    const { state, carrier } = await call('alys_workStatus', work.hash)
    if (state === 'final') {
      assert.match(carrier, /^0x[0-9a-f]{64}$/)
      break
    }
    assert.equal(state, 'accepted')
    assert.ok(Date.now() < end, 'no final block carries the proof')
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
  console.log(JSON.stringify({ sequence: work.sequence, first: work.first, height: work.height }))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
