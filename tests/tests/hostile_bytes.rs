//! Hostile bytes on every port of a node.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use alys_tests::federation::{Federation, Setup, check_sound};
use alys_tests::scenario;
use anyhow::{Context, Result, ensure};

const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of noise; a reader that buffers them all has no limit.
const NOISE_BYTES: usize = 32 << 20;
/// Silent connections that stay open: half of the limit of the Engine API's port.
const IDLE: usize = 16;

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Sends `parts` as far as the other side reads them. Returns its answer.
fn send(port: u16, parts: &[&[u8]]) -> Result<Vec<u8>> {
    let mut stream = connect(port)?;
    for part in parts {
        // The other side may refuse in the middle.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut answer);
    Ok(answer)
}

#[test]
fn hostile_bytes_on_any_port_do_not_disturb_a_node() {
    scenario(
        "hostile_bytes_on_any_port_do_not_disturb_a_node",
        Duration::from_secs(180),
        |world| {
            let setup = Setup {
                members: 1,
                slot_ms: 1000,
                ..Setup::default()
            };
            let federation = Federation::new(world, &setup)?;
            let node = federation.start(world, 0, &[])?;
            let member = &federation.members()[0];
            node.wait_final(world, 1, PROGRESS_TIMEOUT)?;

            // The same noise in every run.
            let noise: Vec<u8> = (0..NOISE_BYTES as u64)
                .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
                .collect();
            let head = |length: usize| {
                format!(
                    "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                     Content-Length: {length}\r\n\r\n"
                )
            };
            let nested = "[".repeat(1 << 20);
            let batch = format!(
                "[{}1]",
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_chainId\"},".repeat(50_000)
            );
            let digits = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_getBalance\",\
                 \"params\":[\"0x{}\"]}}",
                "f".repeat(1 << 20)
            );
            let raw = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_sendRawTransaction\",\
                 \"params\":[\"0x02{}\"]}}",
                "f8".repeat(1000)
            );
            let header = format!("POST / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(4 << 20));
            let bodies: [&str; 5] = [&nested, &batch, &digits, &raw, "\0"];

            for (what, port) in [
                ("peers", member.peer_port),
                ("wallets", member.http_port),
                ("engine", member.engine_port),
            ] {
                let idle: Vec<TcpStream> =
                    (0..IDLE).map(|_| connect(port)).collect::<Result<_>>()?;
                send(port, &[b""])?;
                send(port, &[&noise])?;
                // The multistream greeting, and then a frame that promises 2^62 bytes.
                send(
                    port,
                    &[
                        b"\x13/multistream/1.0.0\n",
                        b"\x07/noise\n",
                        &[0xff; 9],
                        &noise[..70_000],
                    ],
                )?;
                send(port, &[head(usize::MAX).as_bytes(), &noise])?;
                send(port, &[head(1000).as_bytes(), b"{\"jsonrpc\":"])?;
                send(port, &[header.as_bytes()])?;
                for body in bodies {
                    send(port, &[head(body.len()).as_bytes(), body.as_bytes()])?;
                }
                // It makes progress, with the silent connections open.
                let height = node.written(|written| written.height());
                node.wait_final(world, height + 2, PROGRESS_TIMEOUT)?;
                check_sound("the node", &node)?;
                world.say(&format!(
                    "the port for {what} got everything; {} connections stayed open",
                    idle.len()
                ));
            }
            let rpc = federation.rpc(0);
            world.wait("an answer for wallets", PROGRESS_TIMEOUT, || {
                rpc.block_number().map(Some)
            })?;
            let resident = node.memory()?.resident_kib / 1024;
            world.say(&format!("{resident} MiB are resident"));
            ensure!(resident < 400, "{resident} MiB are resident after all this");
            check_sound("the node", &node)
        },
    );
}
