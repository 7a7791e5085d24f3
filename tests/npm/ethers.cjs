// ethers v6 against a chain: `node ethers.cjs URL CHAIN_ID`. Prints what it does; the last line is JSON with what must still
// be there after a restart. Any assertion that fails is the exit code.
const assert = require('node:assert/strict')
const { ContractFactory, JsonRpcProvider, Wallet, getCreateAddress, parseEther, parseUnits } = require('ethers')
const compile = require('./compile.cjs')

const [url, chainId] = process.argv.slice(2)
// Accounts 0 and 9 of the development chain.
const KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'
const UNTOUCHED = '0xa0Ee7A142d267C1f36714E4a8F75612F20a79720'

async function main() {
  const provider = new JsonRpcProvider(url, undefined, { pollingInterval: 200, cacheTimeout: -1 })
  const wallet = new Wallet(KEY, provider)
  assert.equal((await provider.getNetwork()).chainId, BigInt(chainId))
  assert.equal(await provider.getBalance(UNTOUCHED), parseEther('10000'))

  const fees = await provider.getFeeData()
  assert(fees.gasPrice > 0n && fees.maxPriorityFeePerGas > 0n && fees.maxFeePerGas > fees.maxPriorityFeePerGas)
  console.log(`gas price ${fees.gasPrice}, at most ${fees.maxFeePerGas}`)

  const nonce = await wallet.getNonce()
  const recipient = Wallet.createRandom().address
  const transfers = [
    { type: 0, gasPrice: fees.gasPrice * 2n },
    { type: 1, gasPrice: fees.gasPrice * 2n, accessList: [{ address: recipient, storageKeys: [] }] },
    { type: 2 },
  ]
  let expected = 0n
  for (const [index, transfer] of transfers.entries()) {
    const value = parseUnits(`${index + 1}`, 'gwei')
    const sent = await wallet.sendTransaction({ to: recipient, value, ...transfer })
    assert.equal(sent.nonce, nonce + index)
    assert.equal(await wallet.getNonce('pending'), nonce + index + 1)
    const receipt = await sent.wait()
    assert.equal(receipt.status, 1)
    assert.equal(receipt.type, transfer.type)
    assert.equal(receipt.gasUsed, transfer.type === 1 ? 23_400n : 21_000n)
    expected += value
    assert.equal(await provider.getBalance(recipient), expected)
    const mined = await provider.getTransaction(sent.hash)
    assert.equal(mined.blockNumber, receipt.blockNumber)
    assert.equal(mined.from, wallet.address)
    assert((await provider.getBlock(receipt.blockNumber)).transactions.includes(sent.hash))
    console.log(`transfer of type ${transfer.type} in block ${receipt.blockNumber}`)
  }
  assert.equal(await wallet.getNonce(), nonce + 3)

  const { abi, bytecode } = compile('shanghai')
  const till = await new ContractFactory(abi, bytecode, wallet).deploy()
  await till.waitForDeployment()
  const address = await till.getAddress()
  assert.equal(address, getCreateAddress({ from: wallet.address, nonce: nonce + 3 }))
  assert.notEqual(await provider.getCode(address), '0x')
  assert.equal(await till.total(), 0n)
  console.log(`contract at ${address}`)

  const value = parseEther('1.5')
  const estimate = await till.pay.estimateGas({ value })
  const receipt = await (await till.pay({ value })).wait()
  assert.equal(receipt.status, 1)
  assert(receipt.gasUsed <= estimate && estimate < receipt.gasUsed * 2n, `${estimate} for ${receipt.gasUsed}`)
  assert.equal(await till.total(), value)
  assert.equal(await provider.getBalance(address), value)
  const [inReceipt] = receipt.logs
  assert.equal(inReceipt.fragment.name, 'Paid')
  assert.deepEqual([...inReceipt.args], [wallet.address, value, value])
  const found = await till.queryFilter(till.filters.Paid(wallet.address), receipt.blockNumber - 1)
  assert.deepEqual(found.map((log) => [log.transactionHash, log.index]), [[receipt.hash, inReceipt.index]])
  assert.deepEqual(await till.queryFilter(till.filters.Paid(recipient), 0), [])
  const raw = await provider.getLogs({ address, fromBlock: 0, toBlock: 'latest' })
  assert.deepEqual(raw.map((log) => log.transactionHash), [receipt.hash])
  console.log(`log of block ${receipt.blockNumber} in receipt and getLogs, ${receipt.gasUsed} of ${estimate} gas`)

  await assert.rejects(till.pay.staticCall(), { code: 'CALL_EXCEPTION', reason: 'nothing was paid' })
  await assert.rejects(till.pay.estimateGas(), { code: 'CALL_EXCEPTION', reason: 'nothing was paid' })
  await assert.rejects(till.take.staticCall(value + 1n), (error) => {
    assert.equal(error.revert?.name, 'TooMuch')
    assert.deepEqual([...error.revert.args], [value + 1n, value])
    return true
  })
  const reverted = await till.pay({ value: 0n, gasLimit: 100_000n })
  await assert.rejects(reverted.wait(), (error) => error.code === 'CALL_EXCEPTION' && error.receipt.status === 0)
  assert.equal((await (await till.take(parseEther('0.5'))).wait()).status, 1)
  assert.equal(await till.total(), parseEther('1'))
  console.log('reverts: by reason, by custom error, and mined')

  const mistakes = [
    [() => wallet.sendTransaction({ to: recipient, value: 1n, nonce }), 'NONCE_EXPIRED'],
    [() => Wallet.createRandom(provider).sendTransaction({ to: recipient, value: 1n }), 'INSUFFICIENT_FUNDS'],
  ]
  for (const [sending, code] of mistakes) await assert.rejects(sending(), { code })
  console.log('mistakes are refused by name')

  // Safe is what the federation made final, finalized what a proof of work covers: those of the dev network are 20 s apart.
  assert((await provider.getBlock('safe')).number >= receipt.blockNumber)
  const isFinalized = async () => (await provider.getBlock('finalized')).number >= receipt.blockNumber
  for (const end = Date.now() + 120_000; !(await isFinalized()); await new Promise((resolve) => setTimeout(resolve, 500))) {
    assert(Date.now() < end, 'no proof of work covers the last transaction')
  }
  console.log('the last transaction is final by proof of work')
  assert((await provider.getBlock('pending')).number > receipt.blockNumber)
  console.log(JSON.stringify({ contract: address, total: '1000000000000000000', recipient, balance: `${expected}` }))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
