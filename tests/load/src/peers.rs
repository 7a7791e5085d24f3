//! Peers that connect and vanish.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use futures::io::AllowStdIo;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::identity::Keypair;
use libp2p::noise;

use crate::loads::{Counts, Targets};
use crate::requests::side_by_side;

/// Peers that appear at once, spread over the validators: 22 or 23 at each of four. Three quarters
/// of them never finish their handshake and hold 16 to 18 places for a while, of the 16 that a
/// validator has for the handshakes of known hosts (`max_pending_known` in `alys_net`); so the
/// peers replace each other. The places of strangers are not touched, because the validators know
/// this host by the addresses of each other.
const AT_ONCE: usize = 90;
/// A validator closes a silent handshake after four seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const MULTISTREAM: &[u8] = b"\x13/multistream/1.0.0\n";
const NOISE: &[u8] = b"\x07/noise\n";
const YAMUX: &[u8] = b"\x0d/yamux/1.0.0\n";
/// The length of the first message of the noise handshake: an ephemeral key.
const FIRST_MESSAGE: [u8; 2] = [0, 32];

/// Makes `peers` peers over the duration. A quarter finish the handshake, each with a new identity;
/// the others vanish before it or within it.
pub fn vanishing(targets: &Targets, counts: &Counts, peers: usize) {
    let rounds = peers.div_ceil(AT_ONCE);
    // One more, so that the last ones have vanished at the end.
    let period = targets.duration / (rounds as u32 + 1);
    side_by_side(AT_ONCE, |worker| {
        for round in 0..rounds {
            let started = Instant::now();
            let index = round * AT_ONCE + worker;
            if index >= peers {
                break;
            }
            counts.record(targets.peer(index), |mut stream| {
                appear(&mut stream, index / targets.peers.len())?;
                // Silent for a while, and gone.
                thread::sleep(period / 4);
                Ok(())
            });
            thread::sleep(period.saturating_sub(started.elapsed()));
        }
    });
}

/// Performs the part of the handshake that `number` selects.
fn appear(stream: &mut TcpStream, number: usize) -> Result<()> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    match number % 4 {
        0 => {}
        1 => {
            stream.write_all(MULTISTREAM)?;
            stream.write_all(NOISE)?;
            read_exactly(stream, MULTISTREAM.len() + NOISE.len())?;
        }
        2 => {
            stream.write_all(&[MULTISTREAM, NOISE, &FIRST_MESSAGE].concat())?;
            // Any 32 bytes are a key, which the validator answers with its own and a signature.
            stream.write_all(&[number as u8; 32])?;
            read_exactly(stream, MULTISTREAM.len() + NOISE.len() + 2)?;
        }
        _ => complete(stream)?,
    }
    Ok(())
}

/// Completes the handshake, up to the choice of the multiplexer.
fn complete(stream: &TcpStream) -> Result<()> {
    let mut plain = stream.try_clone()?;
    plain.write_all(&[MULTISTREAM, NOISE].concat())?;
    read_exactly(&mut plain, MULTISTREAM.len() + NOISE.len())?;
    let key = Keypair::generate_ed25519();
    let config = noise::Config::new(&key).map_err(Error::other)?;
    // The socket blocks, therefore no future below is ever pending.
    let handshake = config.upgrade_outbound(AllowStdIo::new(plain), "/noise");
    let (_, mut secure) = now(handshake)?.map_err(Error::other)?;
    let choice = [MULTISTREAM, YAMUX].concat();
    now(secure.write_all(&choice))??;
    now(secure.flush())??;
    let mut chosen = vec![0; choice.len()];
    now(secure.read_exact(&mut chosen))??;
    if chosen != choice {
        return Err(Error::new(ErrorKind::InvalidData, "no multiplexer"));
    }
    Ok(())
}

fn now<T>(future: impl Future<Output = T>) -> Result<T> {
    future
        .now_or_never()
        .ok_or_else(|| ErrorKind::WouldBlock.into())
}

fn read_exactly(stream: &mut TcpStream, length: usize) -> Result<()> {
    stream.read_exact(&mut vec![0; length])
}
