// Transfers through several execution clients of one chain: `node transfers.cjs CHAIN_ID ROUNDS URL..`. In every round,
// each client is sent a transfer of an account of its own; all must be mined and be the same at every client.
const assert = require('node:assert/strict')
const { JsonRpcProvider, Wallet, parseUnits } = require('ethers')

const [chainId, rounds, ...urls] = process.argv.slice(2)
// The first accounts of the development chain.
const KEYS = [
  '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
  '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
  '0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
  '0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6',
]
const VALUE = 1_000_000_007n
const FEES = { maxFeePerGas: parseUnits('20', 'gwei'), maxPriorityFeePerGas: parseUnits('1', 'gwei') }
const PATIENCE_MS = 90_000

async function main() {
  const providers = urls.map((url) => new JsonRpcProvider(url, Number(chainId), { staticNetwork: true, cacheTimeout: -1 }))
  const recipient = Wallet.createRandom().address
  let expected = 0n
  for (let round = 1; round <= Number(rounds); round++) {
    const sent = await Promise.all(
      providers.map((provider, index) =>
        new Wallet(KEYS[index], provider).sendTransaction({ to: recipient, value: VALUE, gasLimit: 21_000n, ...FEES }),
      ),
    )
    expected += VALUE * BigInt(sent.length)
    const until = Date.now() + PATIENCE_MS
    for (const { hash } of sent) {
      const blocks = new Set()
      for (const provider of providers) {
        let receipt = null
        while ((receipt = await provider.getTransactionReceipt(hash)) === null) {
          assert(Date.now() < until, `${hash} is not mined`)
          await new Promise((resolve) => setTimeout(resolve, 300))
        }
        assert.equal(receipt.status, 1)
        blocks.add(receipt.blockHash)
      }
      assert.equal(blocks.size, 1, `${hash} is in different blocks`)
    }
    for (const provider of providers) assert.equal(await provider.getBalance(recipient), expected)
    console.log(`round ${round}: ${sent.length} transfers are the same at ${providers.length} clients`)
  }
  console.log(JSON.stringify({ recipient, balance: `${expected}`, transfers: Number(rounds) * urls.length }))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
