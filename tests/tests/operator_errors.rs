//! Operator errors: each ends in one clear line before the node changes anything, or in a warning
//! of a node that keeps running; never in a panic.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use alys_tests::federation::{Federation, Setup, check_sound, text};
use alys_tests::process::{Stream, prefixed};
use alys_tests::{Process, World, alys, ports, scenario};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
/// For a refusal, decryption in a debug build included.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(20);
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
const SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000007\n";
const OTHER_SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000008\n";

/// A federation of one, which is its own quorum.
fn of_one(world: &World, name: &'static str, chain_id: u64) -> Result<Federation> {
    Federation::new(
        world,
        &Setup {
            name,
            members: 1,
            slot_ms: 1000,
            chain_id,
            ..Setup::default()
        },
    )
}

/// Checks for exit code 2, one line that starts with `error: ` and contains all of `expected`, and
/// no panic.
fn check_refused(world: &World, command: &Command, expected: &[&str]) -> Result<()> {
    let mut process = Process::start(world, "alys", command)?;
    let status = process.wait_end(world, REFUSAL_TIMEOUT)?;
    let told = process.text(Stream::Err);
    let errors: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    let [error] = errors.as_slice() else {
        bail!("{} lines of error with {status}: {told}", errors.len())
    };
    ensure!(status.code() == Some(2), "{status}: {told}");
    ensure!(
        told.lines().last() == Some(error),
        "output follows the error: {told}"
    );
    ensure!(!told.contains("panicked"), "{told}");
    for expected in expected {
        ensure!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
    world.say(error);
    Ok(())
}

fn node_refused(
    world: &World,
    federation: &Federation,
    more: &[&str],
    expected: &[&str],
) -> Result<()> {
    let mut args = vec!["node", "--config", text(&federation.members()[0].config)?];
    args.extend(more);
    check_refused(world, &alys::command(world, args), expected)
}

/// Runs `body` while a file has another content.
fn with_file(path: &Path, content: &[u8], body: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = fs::read(path)?;
    fs::write(path, content)?;
    body()?;
    fs::write(path, before)?;
    Ok(())
}

/// Runs `body` while a text in a file is replaced.
fn with_edit(path: &Path, from: &str, to: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = fs::read_to_string(path)?;
    ensure!(
        before.contains(from),
        "{from:?} is not in {}",
        path.display()
    );
    with_file(path, before.replacen(from, to, 1).as_bytes(), body)
}

#[test]
fn wrong_files_are_named_with_their_errors() {
    scenario("wrong_files_are_named_with_their_errors", LIMIT, |world| {
        let federation = of_one(world, "chain", 71)?;
        wrong_configurations(world, &federation)?;
        wrong_chains(world, &federation)?;
        wrong_keys(world, &federation)?;
        wrong_secrets(world, &federation)?;

        // The errors left no trace.
        let node = federation.start(world, 0, &[])?;
        node.wait_final(world, 2, PROGRESS_TIMEOUT)?;
        check_sound("the node", &node)
    });
}

fn wrong_configurations(world: &World, federation: &Federation) -> Result<()> {
    let member = &federation.members()[0];
    let refused = |expected: &[&str]| node_refused(world, federation, &[], expected);
    check_refused(
        world,
        &alys::command(world, ["node", "--config", "nowhere.toml"]),
        &["nowhere.toml does not exist", "alys config example"],
    )?;
    let config = fs::read_to_string(&member.config)?;
    let listen = format!("listen = \"127.0.0.1:{}\"", member.peer_port);
    for (from, to, expected) in [
        (
            "name =",
            "nmae =",
            ["node-0.toml:1:", "did you mean `name`?"],
        ),
        (&listen, "listen = 30333", ["node-0.toml:3:", "listen"]),
        (
            &listen,
            "listen = \"everywhere\"",
            ["node-0.toml:3:", "is not ip:port"],
        ),
        (
            "bootnodes = []",
            "bootnodes = [\"somebody\"]",
            ["node-0.toml:4:", "is no peer address"],
        ),
        (
            "embedded = {",
            "embeded = {",
            ["node-0.toml:8:", "did you mean `embedded`?"],
        ),
        (
            "format = \"json\"",
            "format = \"xml\"",
            ["node-0.toml:11:", "unknown variant `xml`"],
        ),
        ("[log]", "[log", ["node-0.toml:10:", ""]),
    ] {
        with_edit(&member.config, from, to, || refused(&expected))?;
    }
    with_file(&member.config, &[0xff, 0, 0x80], || {
        refused(&["node-0.toml is not a text file"])
    })?;
    with_file(&member.config, &config.as_bytes()[..40], || {
        refused(&["node-0.toml:"])
    })
}

fn wrong_chains(world: &World, federation: &Federation) -> Result<()> {
    let refused = |expected: &[&str]| node_refused(world, federation, &[], expected);
    let chain = federation.dir().join("chain.toml");
    with_edit(
        &chain,
        "slot_duration_ms = 1000",
        "slot_duration_ms = 0",
        || refused(&["chain.toml", "slot_duration_ms"]),
    )?;
    with_edit(&chain, "evm_chain_id = 71", "evm_chain_id = 72", || {
        refused(&["chain id 71", "evm_chain_id = 72"])
    })?;
    let genesis = federation.dir().join("execution-genesis.json");
    with_file(&genesis, b"{", || {
        refused(&["execution-genesis.json: not a Geth genesis file"])
    })?;
    with_edit(&genesis, "\"gasLimit\"", "\"gasLimits\"", || {
        refused(&["belong to different chains"])
    })?;
    let other = of_one(world, "other", 72)?;
    let foreign = fs::read(other.dir().join("execution-genesis.json"))?;
    with_file(&genesis, &foreign, || {
        refused(&["chain id 72", "evm_chain_id = 71"])
    })
}

fn wrong_keys(world: &World, federation: &Federation) -> Result<()> {
    let refused =
        |more: &[&str], expected: &[&str]| node_refused(world, federation, more, expected);
    let password = world.dir().join("wrong.txt");
    fs::write(&password, "not the password")?;
    let wrong = ["--password-file", text(&password)?];
    refused(&wrong, &["keystore.json", "wrong password"])?;
    refused(
        &["--password-file", "missing.txt"],
        &["missing.txt does not exist"],
    )?;
    let datadir = &federation.members()[0].datadir;
    let keystore = datadir.join("keystore.json");
    with_file(&keystore, b"{}", || refused(&[], &["keystore.json"]))?;
    with_edit(&keystore, "\"version\"", "\"versions\"", || {
        refused(&[], &["keystore.json", "version"])
    })?;
    with_file(&datadir.join("identity.key"), b"me", || {
        refused(&[], &["identity.key is damaged"])
    })
}

/// Of the secret shared with the execution client.
fn wrong_secrets(world: &World, federation: &Federation) -> Result<()> {
    let refused =
        |more: &[&str], expected: &[&str]| node_refused(world, federation, more, expected);
    let secret = world.dir().join("jwt.hex");
    fs::write(&secret, "a secret\n")?;
    let secret = text(&secret)?;
    let url = "http://127.0.0.1:1";
    for args in [
        &["--jwt-secret", secret] as &[&str],
        &["--execution-url", url, "--jwt-secret", secret],
    ] {
        refused(args, &["jwt.hex: the JWT secret must be hex"])?;
    }
    refused(
        &["--execution-url", url, "--jwt-secret", "missing.hex"],
        &["JWT secret: ", "missing.hex does not exist"],
    )?;
    refused(
        &["--execution-url", url],
        &["execution.jwt_secret", "missing"],
    )
}

#[test]
fn a_datadir_that_cannot_be_written_is_refused() {
    scenario(
        "a_datadir_that_cannot_be_written_is_refused",
        LIMIT,
        |world| {
            let federation = of_one(world, "chain", 71)?;
            let member = &federation.members()[0];
            let keystore = member.datadir.join("keystore.json");

            // Below a file.
            let edit = format!("datadir = \"{}\"", member.datadir.display());
            let file = world.dir().join("file");
            fs::write(&file, "")?;
            for datadir in [file.join("data"), file.clone()] {
                let wrong = format!(
                    "datadir = \"{}\"\nkeystore = \"{}\"",
                    datadir.display(),
                    keystore.display()
                );
                with_edit(&member.config, &edit, &wrong, || {
                    node_refused(world, &federation, &[], &["data directory", text(&file)?])
                })?;
            }
            let dev = alys::command(
                world,
                ["dev", "--datadir", text(&file)?, "--http-port", "0"],
            );
            check_refused(world, &dev, &["data directory", text(&file)?])?;

            // Read-only: a new directory, and the one with the keys.
            let closed = world.dir().join("closed");
            fs::create_dir(&closed)?;
            let new = closed.join("data");
            let wrong = format!(
                "datadir = \"{}\"\nkeystore = \"{}\"",
                new.display(),
                keystore.display()
            );
            set_writable(&closed, false)?;
            with_edit(&member.config, &edit, &wrong, || {
                let command = alys::command(world, ["node", "--config", text(&member.config)?]);
                check_refused(
                    world,
                    &without_privilege(&command)?,
                    &["not writable", text(&new)?],
                )
            })?;
            let dev = alys::command(world, ["dev", "--datadir", text(&new)?, "--http-port", "0"]);
            check_refused(
                world,
                &without_privilege(&dev)?,
                &["not writable", text(&new)?],
            )?;
            set_writable(&closed, true)?;
            set_writable(&member.datadir, false)?;
            let command = alys::command(world, ["node", "--config", text(&member.config)?]);
            check_refused(
                world,
                &without_privilege(&command)?,
                &["data directory", text(&member.datadir)?],
            )?;
            set_writable(&member.datadir, true)?;

            let node = federation.start(world, 0, &[])?;
            node.wait_final(world, 2, PROGRESS_TIMEOUT)?;
            check_sound("the node", &node)
        },
    );
}

fn set_writable(dir: &Path, writable: bool) -> Result<()> {
    let mode = if writable { 0o755 } else { 0o555 };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).context("permissions")
}

/// The same command bound by file permissions, which root ignores without this.
fn without_privilege(command: &Command) -> Result<Command> {
    let is_root = fs::metadata("/proc/self")?.uid() == 0;
    let without = [
        "setpriv",
        "--bounding-set",
        "-dac_override,-dac_read_search",
    ];
    Ok(prefixed(command, if is_root { &without } else { &[] }))
}

#[test]
fn ports_and_datadirs_belong_to_one_process() {
    scenario("ports_and_datadirs_belong_to_one_process", LIMIT, |world| {
        let federation = of_one(world, "first", 71)?;
        let other = of_one(world, "second", 72)?;
        let (member, second) = (&federation.members()[0], &other.members()[0]);
        let node = federation.start(world, 0, &[])?;
        node.wait_final(world, 1, PROGRESS_TIMEOUT)?;

        node_refused(
            world,
            &federation,
            &[],
            &[
                "data directory",
                text(&member.datadir)?,
                "in use by another process",
            ],
        )?;
        let password = text(&federation.dir().join("password.txt"))?.to_owned();
        let again = alys::command(
            world,
            [
                "keys",
                "new",
                "--datadir",
                text(&member.datadir)?,
                "--password-file",
                &password,
            ],
        );
        check_refused(world, &again, &["in use by another process"])?;

        for (what, own, taken) in [
            ("peers", second.peer_port, member.peer_port),
            ("json-rpc", second.http_port, member.http_port),
            ("engine", second.engine_port, member.engine_port),
        ] {
            let (own, taken) = (format!("127.0.0.1:{own}"), format!("127.0.0.1:{taken}"));
            with_edit(&second.config, &own, &taken, || {
                node_refused(
                    world,
                    &other,
                    &[],
                    &[&taken, what, "another program uses this port"],
                )
            })?;
        }
        let data = world.dir().join("dev");
        let dev = |port: u16| -> Result<Command> {
            let args = [
                "dev",
                "--validators",
                "1",
                "--slot-ms",
                "1000",
                "--datadir",
                text(&data)?,
                "--http-port",
            ];
            let mut command = alys::command(world, args);
            command.arg(port.to_string());
            Ok(command)
        };
        let taken = member.http_port;
        check_refused(world, &dev(taken)?, &[&taken.to_string(), "--http-port 0"])?;
        let running = Process::start(world, "alys dev", &dev(ports::free())?)?;
        running.wait_line(world, "block      1", PROGRESS_TIMEOUT)?;
        check_refused(world, &dev(0)?, &[text(&data)?, "another", "--datadir"])?;

        // The running processes are undisturbed.
        let height = node.written(|written| written.height());
        node.wait_final(world, height + 2, PROGRESS_TIMEOUT)?;
        check_sound("alys dev", &running)?;
        check_sound("the node", &node)
    });
}

#[test]
fn an_execution_client_with_another_secret_or_genesis_is_refused() {
    scenario(
        "an_execution_client_with_another_secret_or_genesis_is_refused",
        LIMIT,
        |world| {
            let federation = of_one(world, "first", 71)?;
            let other_setup = Setup {
                name: "second",
                members: 1,
                slot_ms: 1000,
                chain_id: 71,
                ether: 7,
            };
            let other = Federation::new(world, &other_setup)?;
            let secret = world.dir().join("jwt.hex");
            fs::write(&secret, SECRET)?;
            let wrong = world.dir().join("other.hex");
            fs::write(&wrong, OTHER_SECRET)?;
            // With the secret its embedded client serves another node like any client.
            let node = federation.start(world, 0, &["--jwt-secret", text(&secret)?])?;
            node.wait_final(world, 1, PROGRESS_TIMEOUT)?;
            let port = federation.members()[0].engine_port;
            let url = format!("http://127.0.0.1:{port}");

            let with = |secret: &Path, expected: &[&str]| -> Result<()> {
                let args = ["--execution-url", &url, "--jwt-secret", text(secret)?];
                node_refused(world, &other, &args, expected)
            };
            with(
                &wrong,
                &[
                    "does not accept our token",
                    "the secrets differ",
                    &port.to_string(),
                ],
            )?;
            with(&secret, &["has another block 0", &port.to_string()])?;

            // The same block 0 under another chain id, which the block does not contain.
            for (name, from, to) in [
                ("chain.toml", "evm_chain_id = 71", "evm_chain_id = 72"),
                (
                    "execution-genesis.json",
                    "\"chainId\": 71",
                    "\"chainId\": 72",
                ),
            ] {
                let twin = fs::read_to_string(federation.dir().join(name))?;
                ensure!(twin.contains(from), "{from:?} is not in {name}");
                fs::write(other.dir().join(name), twin.replace(from, to))?;
            }
            with(&secret, &["has chain id 71", "has 72", &port.to_string()])?;

            // A client that does not answer may start later: the node waits and warns.
            let args = [
                "--execution-url",
                "http://127.0.0.1:1",
                "--jwt-secret",
                text(&secret)?,
            ];
            let waiting = other.start(world, 0, &args)?;
            waiting.wait(world, "a warning", PROGRESS_TIMEOUT, |written| {
                let clear = |text: &str| text.contains("WARN") && text.contains("does not answer");
                written
                    .lines
                    .iter()
                    .any(|line| clear(&line.text))
                    .then_some(())
            })?;
            check_sound("the waiting node", &waiting)?;
            ensure!(
                waiting.written(|written| written.height()) == 0,
                "final blocks without execution"
            );

            let height = node.written(|written| written.height());
            node.wait_final(world, height + 2, PROGRESS_TIMEOUT)?;
            check_sound("the node", &node)
        },
    );
}

#[test]
fn a_peer_of_another_chain_is_refused_and_both_keep_running() {
    scenario(
        "a_peer_of_another_chain_is_refused_and_both_keep_running",
        LIMIT,
        |world| {
            let first = of_one(world, "first", 71)?;
            let second = of_one(world, "second", 72)?;
            let node = first.start(world, 0, &[])?;
            let peer = format!("127.0.0.1:{}", first.members()[0].peer_port);
            let other = second.start(world, 0, &["--bootnodes", &peer])?;
            for (name, process) in [("first", &node), ("second", &other)] {
                let line = process.wait(world, "a warning", PROGRESS_TIMEOUT, |written| {
                    let mut lines = written.lines.iter().map(|line| &line.text);
                    lines.find(|text| text.contains("wrong genesis")).cloned()
                })?;
                ensure!(line.contains("\"level\":\"WARN\""), "{line}");
                world.say(&format!("{name}: {line}"));
            }
            for process in [&node, &other] {
                let height = process.written(|written| written.height());
                process.wait_final(world, height + 3, PROGRESS_TIMEOUT)?;
                check_sound("a node", process)?;
            }
            // One warning, and not one for each attempt.
            let warnings = other.written(|written| {
                written
                    .lines
                    .iter()
                    .filter(|line| line.text.contains("wrong genesis"))
                    .count()
            });
            ensure!(warnings == 1, "{warnings} warnings of one peer");
            Ok(())
        },
    );
}

#[test]
fn a_full_node_without_peers_warns_and_tells_wallets_that_it_syncs() {
    scenario(
        "a_full_node_without_peers_warns_and_tells_wallets_that_it_syncs",
        LIMIT,
        |world| {
            let federation = of_one(world, "chain", 71)?;
            let member = &federation.members()[0];
            let config = fs::read_to_string(&member.config)?;
            let unreachable = format!("bootnodes = [\"127.0.0.1:{}\"]", ports::free());
            let config = config
                .replace("bootnodes = []", &unreachable)
                .replace("name = ", "role = \"full\"\nname = ");
            ensure!(
                config.contains(&unreachable) && config.contains("full"),
                "{config}"
            );
            let path = federation.dir().join("full.toml");
            fs::write(&path, config)?;
            let args = ["node", "--config", text(&path)?, "--datadir", "full"];
            let node = Process::start(world, "full", &alys::command(world, args))?;
            let line = node.wait_line(world, "no peer is connected", PROGRESS_TIMEOUT)?;
            ensure!(line.contains("\"level\":\"WARN\""), "{line}");
            let rpc = federation.rpc(0);
            let syncing = rpc.call("eth_syncing", json!([]))?;
            ensure!(syncing["currentBlock"] == "0x0", "eth_syncing is {syncing}");
            let peers = rpc.call("net_peerCount", json!([]))?;
            ensure!(peers == "0x0", "{peers} peers");
            check_sound("the full node", &node)
        },
    );
}

/// A data directory without its keystore lacks the marker of a key that never voted, and a secret
/// may be readable by other users.
#[test]
fn a_key_without_its_marker_and_an_open_secret_are_warned_of() {
    scenario(
        "a_key_without_its_marker_and_an_open_secret_are_warned_of",
        LIMIT,
        |world| {
            let federation = of_one(world, "chain", 71)?;
            let member = &federation.members()[0];
            let keys = &member.datadir;
            let config = fs::read_to_string(&member.config)?;
            let datadir = format!("datadir = \"{}\"", keys.display());
            let keystore = keys.join("keystore.json");
            let keystore = format!("keystore = \"{}\"\n{datadir}", text(&keystore)?);
            ensure!(config.contains(&datadir), "{config}");
            fs::write(&member.config, config.replacen(&datadir, &keystore, 1))?;
            let password = federation.dir().join("password.txt");
            let chmod = |mode| fs::set_permissions(&password, fs::Permissions::from_mode(mode));
            let [marker, secret] = ["votes.new", "password.txt"];

            chmod(0o644)?;
            let mut node = federation.start(world, 0, &["--datadir", "without"])?;
            for named in [marker, secret] {
                let line = node.wait_line(world, named, PROGRESS_TIMEOUT)?;
                ensure!(line.contains("\"level\":\"WARN\""), "{line}");
            }
            check_sound("the node without the marker", &node)?;
            node.kill()?;

            chmod(0o640)?;
            let moved = world.dir().join("with");
            fs::create_dir(&moved)?;
            fs::copy(keys.join(marker), moved.join(marker))?;
            let node = federation.start(world, 0, &["--datadir", text(&moved)?])?;
            node.wait_final(world, 2, PROGRESS_TIMEOUT)?;
            for named in [marker, secret] {
                let line =
                    node.written(|written| written.find(named).map(|line| line.text.clone()));
                ensure!(line.is_none(), "{line:?}");
            }
            check_sound("the node with the marker", &node)
        },
    );
}

#[test]
fn an_operator_asks_a_running_node_and_confirms_its_clock() {
    scenario(
        "an_operator_asks_a_running_node_and_confirms_its_clock",
        LIMIT,
        |world| {
            let federation = of_one(world, "operated", 73)?;
            let datadir = text(&federation.members()[0].datadir)?;
            let status = ["status", "--datadir", datadir];
            let confirm = ["admin", "confirm-clock", "--datadir", datadir];
            let not_running = ["rpc.addr does not exist", "start `alys node`"];
            check_refused(world, &alys::command(world, status), &not_running)?;

            let mut node = federation.start(world, 0, &[])?;
            node.wait_final(world, 2, PROGRESS_TIMEOUT)?;
            let answer: Value = serde_json::from_str(&alys::run(world, status)?)?;
            let is_far = answer["final"]["height"].as_u64() >= Some(2);
            ensure!(is_far && answer["silent"] == false, "{answer}");
            alys::run(world, confirm)?;
            let token = Path::new(datadir).join("admin.token");
            with_file(&token, b"00\n", || {
                check_refused(world, &alys::command(world, confirm), &["admin.token"])
            })?;
            let mode = fs::metadata(&token)?.permissions().mode();
            ensure!(mode & 0o077 == 0, "others may read the token: {mode:o}");

            let height = node.written(|written| written.height());
            node.wait_final(world, height + 2, PROGRESS_TIMEOUT)?;
            node.signal("INT")?;
            let ended = node.wait_end(world, PROGRESS_TIMEOUT)?;
            ensure!(ended.success(), "{ended}");
            ensure!(!token.exists(), "the token outlives its node");
            check_refused(world, &alys::command(world, status), &not_running)?;

            let mut node = federation.start(world, 0, &[])?;
            node.wait_line(world, "started", PROGRESS_TIMEOUT)?;
            node.kill()?;
            let stale = ["rpc.addr names this address", "start `alys node`"];
            check_refused(world, &alys::command(world, status), &stale)
        },
    );
}
