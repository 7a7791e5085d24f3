// Compiles till.sol with solcjs, for the rules that a chain has.
const fs = require('node:fs')
const path = require('node:path')
const solc = require('solc')

/** ABI and bytecode of the contract Till, for 'paris', 'shanghai' or 'cancun'. */
module.exports = function compile(evmVersion) {
  const output = JSON.parse(
    solc.compile(
      JSON.stringify({
        language: 'Solidity',
        sources: { 'till.sol': { content: fs.readFileSync(path.join(__dirname, 'till.sol'), 'utf8') } },
        settings: {
          evmVersion,
          optimizer: { enabled: true },
          outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } },
        },
      }),
    ),
  )
  const errors = (output.errors ?? []).filter((error) => error.severity === 'error')
  if (errors.length > 0) throw new Error(errors.map((error) => error.formattedMessage).join('\n'))
  const { abi, evm } = output.contracts['till.sol'].Till
  return { abi, bytecode: '0x' + evm.bytecode.object }
}
