// Preloaded into EthereumJS, whose peer-to-peer listener has the address 0.0.0.0 built in: every listener without an
// address of this machine gets one.
const dgram = require('node:dgram')
const net = require('node:net')

const open = (host) => host === undefined || host === '0.0.0.0' || host === '::'

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (...args) {
  const [first, second] = args
  if (typeof first === 'number') {
    if (typeof second !== 'string') args.splice(1, 0, '127.0.0.1')
    else if (open(second)) args[1] = '127.0.0.1'
  } else if (first !== null && typeof first === 'object' && 'port' in first && open(first.host)) {
    args[0] = { ...first, host: '127.0.0.1' }
  }
  return listen.apply(this, args)
}

const bind = dgram.Socket.prototype.bind
dgram.Socket.prototype.bind = function (...args) {
  const [first, second] = args
  if (typeof first === 'number' && (typeof second !== 'string' || open(second))) {
    args.splice(1, typeof second === 'string' ? 1 : 0, '127.0.0.1')
  } else if (first !== null && typeof first === 'object' && 'port' in first && open(first.address)) {
    args[0] = { ...first, address: '127.0.0.1' }
  }
  return bind.apply(this, args)
}
