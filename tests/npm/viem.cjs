// viem against a chain: `node viem.cjs URL CHAIN_ID`. Prints what it does; any assertion that fails is the exit code.
const assert = require('node:assert/strict')
const viem = require('viem')
const { generatePrivateKey, privateKeyToAccount } = require('viem/accounts')
const compile = require('./compile.cjs')

const [url, chainId] = process.argv.slice(2)
// Account 1 of the development chain.
const KEY = '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d'

async function main() {
  const chain = viem.defineChain({
    id: Number(chainId),
    name: 'Alys',
    nativeCurrency: { name: 'Bitcoin', symbol: 'BTC', decimals: 18 },
    rpcUrls: { default: { http: [url] } },
  })
  const account = privateKeyToAccount(KEY)
  const client = viem
    .createWalletClient({ account, chain, transport: viem.http(url), pollingInterval: 200 })
    .extend(viem.publicActions)
  assert.equal(await client.getChainId(), chain.id)
  const mined = async (hash) => client.waitForTransactionReceipt({ hash, timeout: 60_000 })

  const fees = await client.estimateFeesPerGas()
  assert(fees.maxFeePerGas > fees.maxPriorityFeePerGas && fees.maxPriorityFeePerGas > 0n)
  const history = await client.getFeeHistory({ blockCount: 2, rewardPercentiles: [50] })
  assert(history.baseFeePerGas.length > 0)
  const gasPrice = (await client.getGasPrice()) * 2n

  const nonce = await client.getTransactionCount({ address: account.address })
  const recipient = privateKeyToAccount(generatePrivateKey()).address
  let expected = 0n
  const kinds = [{ type: 'legacy', gasPrice }, { type: 'eip2930', gasPrice, accessList: [] }, { type: 'eip1559' }]
  for (const [index, kind] of kinds.entries()) {
    const value = viem.parseGwei(`${index + 1}`)
    const hash = await client.sendTransaction({ to: recipient, value, ...kind })
    const receipt = await mined(hash)
    assert.equal(receipt.status, 'success')
    assert.equal(receipt.type, kind.type)
    assert.equal(receipt.gasUsed, 21_000n)
    expected += value
    assert.equal(await client.getBalance({ address: recipient }), expected)
    const block = await client.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true })
    assert.equal(block.transactions.find((one) => one.hash === hash)?.type, kind.type)
    console.log(`transfer of type ${kind.type} in block ${receipt.blockNumber}`)
  }
  assert.equal(await client.getTransactionCount({ address: account.address }), nonce + 3)

  const { abi, bytecode } = compile('paris')
  const deployed = await mined(await client.deployContract({ abi, bytecode }))
  const address = viem.getAddress(deployed.contractAddress)
  assert.equal(address, viem.getContractAddress({ from: account.address, nonce: BigInt(nonce + 3) }))
  console.log(`contract at ${address}`)

  const till = { address, abi }
  const filter = await client.createContractEventFilter({ ...till, eventName: 'Paid' })
  const value = viem.parseEther('0.25')
  const estimate = await client.estimateContractGas({ ...till, functionName: 'pay', value, account })
  const receipt = await mined(await client.writeContract({ ...till, functionName: 'pay', value }))
  assert.equal(receipt.status, 'success')
  assert(receipt.gasUsed <= estimate)
  assert.equal(await client.readContract({ ...till, functionName: 'total' }), value)
  const blockNumber = receipt.blockNumber - 1n
  assert.equal(await client.readContract({ ...till, functionName: 'total', blockNumber }), 0n)
  const [inReceipt] = viem.parseEventLogs({ abi, logs: receipt.logs, eventName: 'Paid' })
  assert.deepEqual(inReceipt.args, { from: account.address, amount: value, total: value })
  const found = await client.getContractEvents({
    ...till, eventName: 'Paid', args: { from: account.address }, fromBlock: 0n, strict: true,
  })
  assert.deepEqual(found.map((log) => [log.transactionHash, log.args.total]), [[receipt.transactionHash, value]])
  const filtered = await client.getFilterChanges({ filter })
  assert.deepEqual(filtered.map((log) => log.transactionHash), [receipt.transactionHash])
  console.log(`log of block ${receipt.blockNumber} in receipt, getLogs and filter`)

  const reverts = [
    [{ functionName: 'pay', value: 0n }, 'nothing was paid', undefined],
    [{ functionName: 'take', args: [value * 2n] }, undefined, 'TooMuch'],
  ]
  for (const [call, reason, name] of reverts) {
    await assert.rejects(client.simulateContract({ ...till, ...call, account }), (error) => {
      const revert = error.walk((one) => one instanceof viem.ContractFunctionRevertedError)
      assert.equal(revert?.reason, reason)
      if (name !== undefined) assert.deepEqual([revert.data.errorName, revert.data.args], [name, [value * 2n, value]])
      return true
    })
  }
  const reverted = await mined(await client.writeContract({ ...till, functionName: 'pay', value: 0n, gas: 100_000n }))
  assert.equal(reverted.status, 'reverted')
  console.log('reverts: by reason, by custom error, and mined')

  await assert.rejects(client.sendTransaction({ to: recipient, value: 1n, nonce, gas: 21_000n }), (error) => {
    assert(error.walk((one) => one instanceof viem.NonceTooLowError) !== null, error)
    return true
  })
  // Safe is what the federation made final, finalized what a proof of work covers.
  const safe = await client.getBlock({ blockTag: 'safe' })
  assert(safe.number >= receipt.blockNumber)
  assert((await client.getBlock({ blockTag: 'finalized' })).number <= safe.number)
  assert((await client.getBlock({ blockTag: 'pending' })).number > receipt.blockNumber)
  console.log('ok')
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
