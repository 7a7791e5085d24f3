//! Tests of the configuration file.

use super::*;

const SMALL: &str = "datadir = \"data\"\nexecution = { embedded = {} }\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(
        "alys.toml",
        text,
        Path::new("/etc/alys"),
        Overrides::default(),
    )
}

#[test]
fn the_example_is_valid_and_shows_the_defaults() {
    let example = parse(EXAMPLE).expect("the example is a configuration");
    let small = parse("datadir = \"data\"\n[execution]\nembedded = { http = \"127.0.0.1:8545\" }")
        .expect("the least that is needed, and a port for wallets");
    let bootnodes = example.bootnodes.clone();
    assert_eq!(
        example,
        Config {
            bootnodes,
            name: example.name.clone(),
            ..small
        }
    );
}

/// The fields of the table at `path`, as the refusal of an unknown one lists them.
fn fields(path: &str) -> Vec<String> {
    let unknown = format!("{path}no_such_field = 1");
    let refused = toml::from_str::<File>(&unknown).err();
    let message = refused.expect("an unknown field").message().to_owned();
    let (_, fields) = message.split_once("expected").expect("a list of fields");
    let quoted = fields.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

fn check_fields(path: &str, example: &toml::Table) {
    let fields = fields(path);
    assert!(!fields.is_empty(), "{path}");
    for field in fields {
        let found = example.get(&field);
        assert!(found.is_some(), "{path}{field} is not in the example");
        if let Some(toml::Value::Table(inner)) = found {
            check_fields(&format!("{path}{field}."), inner);
        }
    }
}

#[test]
fn every_field_of_the_file_is_in_the_example() {
    let is_key = |line: &str| {
        let key = line.split_once(" = ").map(|(key, _)| key);
        key.is_some_and(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let shown = EXAMPLE.lines().map(|line| {
        let shown = line.strip_prefix("# ");
        shown.filter(|shown| is_key(shown)).unwrap_or(line)
    });
    let shown = shown.collect::<Vec<_>>().join("\n");
    let example: toml::Table = toml::from_str(&shown).expect("each key once");
    check_fields("", &example);
    let embedded = ["http", "engine", "hosts", "origins"];
    assert_eq!(fields("execution.embedded."), embedded);
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse(SMALL).expect("small");
    assert_eq!(config.datadir, Path::new("/etc/alys/data"));
    assert_eq!(config.chain, Path::new("/etc/alys/chain.toml"));
    let keystore = PathBuf::from("/etc/alys/data/keystore.json");
    assert_eq!(
        config.role,
        Role::Validator {
            keystore,
            password_file: None
        }
    );
    assert_eq!(
        parse(&SMALL.replace("\"data\"", "\"/srv\""))
            .map(|c| c.datadir)
            .ok(),
        Some("/srv".into())
    );
}

#[test]
fn the_command_line_overrides() {
    let rpc_addr = SocketAddr::from(([127, 0, 0, 1], 9545));
    let overrides = Overrides {
        datadir: Some("elsewhere".into()),
        listen: Some(any_port()),
        bootnodes: vec!["1.2.3.4:5".into()],
        execution_url: Some(parse_url("http://127.0.0.1:8551").expect("a URL")),
        jwt_secret: Some("secret.hex".into()),
        metrics_addr: Some(any_port()),
        rpc_addr: Some(rpc_addr),
        ..Overrides::default()
    };
    let config = Config::parse("f", SMALL, Path::new("/etc/alys"), overrides).expect("small");
    assert_eq!(config.datadir, Path::new("elsewhere"));
    assert_eq!(config.listen, any_port());
    assert_eq!(config.metrics_addr, Some(any_port()));
    assert_eq!(config.rpc_addr, rpc_addr);
    assert_eq!(config.bootnodes, ["1.2.3.4:5"]);
    assert!(matches!(config.execution, Execution::Remote(_)));
}

#[test]
fn the_port_of_miners_is_closed_unless_it_is_enabled() {
    let parse = |table: &str, overrides: MiningOverrides| {
        let text = format!("{SMALL}\n[mining]\n{table}\n");
        let overrides = Overrides {
            mining: overrides,
            ..Overrides::default()
        };
        let config = Config::parse("alys.toml", &text, Path::new("/etc/alys"), overrides);
        config.map_err(|error| error.to_string())
    };
    let mining = |table: &str, overrides| parse(table, overrides).map(|config| config.mining);
    let none = MiningOverrides::default;
    let addr = |text: &str| Some(parse_address(text).expect("an address"));
    let local = Mining {
        addr: SocketAddr::from(([127, 0, 0, 1], 3000)),
        login: None,
        hosts: Vec::new(),
    };
    assert_eq!(mining("", none()), Ok(None));
    assert_eq!(mining("addr = \"0.0.0.0:1\"", none()), Ok(None));
    assert_eq!(mining("enabled = true", none()), Ok(Some(local.clone())));
    let enabling = MiningOverrides {
        addr: addr("127.0.0.1:3001"),
        user: Some("pool".to_owned()),
        password_file: Some("pw".into()),
        ..none()
    };
    let with_login = Mining {
        addr: SocketAddr::from(([127, 0, 0, 1], 3001)),
        login: Some(("pool".to_owned(), "pw".into())),
        ..local.clone()
    };
    assert_eq!(mining("", enabling), Ok(Some(with_login)));
    let open = "enabled = true\naddr = \"0.0.0.0:3000\"\nhosts = [\"pool.example\"]";
    let remote = Mining {
        addr: SocketAddr::from(([0, 0, 0, 0], 3000)),
        hosts: vec!["pool.example".to_owned()],
        login: Some(("u".to_owned(), "/etc/alys/p".into())),
    };
    let file = "user = \"u\"\npassword_file = \"p\"";
    let allowed = mining(&format!("{open}\nallow_remote = true\n{file}"), none());
    assert_eq!(allowed, Ok(Some(remote.clone())));
    let by_option = MiningOverrides {
        allow_remote: true,
        ..none()
    };
    assert_eq!(
        mining(&format!("{open}\n{file}"), by_option),
        Ok(Some(remote))
    );
    for (table, expected) in [
        (
            open,
            "mining.addr: 0.0.0.0:3000 is reached from other machines",
        ),
        (
            "enabled = true\nuser = \"u\"",
            "mining.password_file: missing",
        ),
        (
            "enabled = true\npassword_file = \"p\"",
            "mining.user: missing",
        ),
        ("fee_address = \"0x12\"", "\"0x12\" is not an EVM address"),
        ("enable = true", "did you mean `enabled`?"),
    ] {
        let error = mining(table, none()).expect_err(table);
        assert!(error.contains(expected), "{error}");
    }
    // The address protects the work of the node's own miners without the port as well.
    let own = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    let config = parse(&format!("fee_address = \"{own}\""), none());
    let config = config.expect("an address");
    assert_eq!(config.fee_address, own.parse().ok());
}

#[test]
fn the_pool_belongs_to_the_execution_client_that_it_is_given_with() {
    let text = "datadir = \"data\"\n\
                execution = { url = \"http://127.0.0.1:8551\", jwt_secret = \"j\", \
                pool_url = \"http://127.0.0.1:8545\" }\n";
    let url = |port: u16| {
        let text = format!("http://127.0.0.1:{port}");
        parse_url(&text).expect("a URL")
    };
    // Engine API and pool of the command line, and the pool that is used.
    let table = [
        (None, None, Some(url(8545))),
        (None, Some(url(9545)), Some(url(9545))),
        (Some(url(9551)), None, None),
        (Some(url(9551)), Some(url(9545)), Some(url(9545))),
    ];
    for (execution_url, pool_url, expected) in table {
        let shown = format!("{execution_url:?} {pool_url:?}");
        let overrides = Overrides {
            execution_url,
            pool_url,
            ..Overrides::default()
        };
        let config = Config::parse("f", text, Path::new("/etc/alys"), overrides);
        let Execution::Remote(endpoint) = config.expect("it is valid").execution else {
            panic!("{shown}: embedded");
        };
        assert_eq!(endpoint.pool, expected, "{shown}");
    }
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let table = [
        (
            "listn = \"0.0.0.0:1\"\n",
            "alys.toml:1: unknown field `listn`",
            "did you mean `listen`?",
        ),
        (
            "\n\nlisten = \"0.0.0.0\"\n",
            "alys.toml:3: \"0.0.0.0\" is not ip:port",
            "127.0.0.1:8545",
        ),
        (
            "bootnodes = [\"nowhere\"]\n",
            "alys.toml:1: \"nowhere\" is no peer address",
            "ip:port/p2p/ID",
        ),
        (
            "storage = \"rocksdb\"\n",
            "alys.toml:1: unknown variant `rocksdb`",
            "`redb`",
        ),
        (
            "storage = \"slde\"\n",
            "alys.toml:1:",
            "did you mean `sled`?",
        ),
        ("role = \"ful\"\n", "alys.toml:1:", "did you mean `full`?"),
        (
            "role = \"full\"\nkeystore = \"k\"\n",
            "alys.toml: keystore:",
            "role = \"validator\"",
        ),
        ("name = 1\n", "alys.toml:1:", "expected a string"),
        ("name = \"a\nb\"\n", "alys.toml:", ""),
        ("\u{0}", "alys.toml:1:", ""),
        (
            "log = { format = \"jsn\" }\n",
            "alys.toml:1:",
            "did you mean `json`?",
        ),
    ];
    for (start, place, advice) in table {
        let error = parse(&format!("{start}{SMALL}"))
            .expect_err(start)
            .to_string();
        assert!(
            error.starts_with(place) && error.contains(advice),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn there_is_exactly_one_execution_client() {
    let table = [
        ("", "missing field `execution`"),
        ("execution = {}", "embedded"),
        (
            "execution = { url = \"http://127.0.0.1:8551\" }",
            "execution.jwt_secret",
        ),
        (
            "execution = { url = \"http://geth:8551\", jwt_secret = \"j\" }",
            "IP address or localhost",
        ),
        (
            "execution = { url = \"127.0.0.1:8551\", jwt_secret = \"j\" }",
            "http://127.0.0.1:8551",
        ),
        (
            "execution = { embedded = {}, url = \"http://127.0.0.1:8551\", \
             jwt_secret = \"j\" }",
            "both embedded and url",
        ),
        (
            "execution = { embedded = {}, pool_url = \"http://127.0.0.1:8545\" }",
            "needs none",
        ),
        ("execution = { embeded = {} }", "did you mean `embedded`?"),
        (
            "execution = { embedded = { htp = \"1.1.1.1:1\" } }",
            "did you mean `http`?",
        ),
    ];
    for (line, expected) in table {
        let error = parse(&format!("datadir = \"d\"\n{line}\n"))
            .expect_err(line)
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn reading_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("{text}\n{SMALL}"));
    }
}
