use super::*;
use crate::faults::{self, Machine};
use crate::params::{FaultModelWord, MachineRole, Ms, NodeRef, When};

const HEAD: &str = "why = \"A test.\"\nuntil = \"30s\"\n";

fn read(rest: &str) -> Result<Scenario, ScenarioError> {
    parse("scenarios/test.toml", &format!("{HEAD}{rest}"))
}

#[test]
fn every_scenario_file_is_read_and_says_why() {
    let files = list().expect("the directory is there");
    assert!(files.len() >= 12, "{files:?}");
    for name in files.keys() {
        let scenario = load(name).unwrap_or_else(|error| panic!("{error}"));
        let plan = scenario.plan(1);
        assert_eq!(&plan.name, name);
        assert!(plan.why.len() > 30, "{name} says why it exists");
        assert!(!plan.covers.is_empty(), "{name} says what it covers");
        let json = serde_json::to_string(&plan).expect("plans are data");
        assert_eq!(
            serde_json::from_str::<Plan>(&json).expect("its own form"),
            plan
        );
    }
}

#[test]
fn a_scenario_says_everything_a_plan_has() {
    let scenario = read(
        r#"
covers = ["3.4", "S1"]
seed = 7
mutant = "lock-not-persisted"
[world]
nodes = 7
slot = "2s"
drift = "400ms"
forger = 7
left_dead = [1]
rejoin_margin = 9
[links]
latency = "20ms"
loss_ppm = 7
[workload]
users = 1
pause = "1.5s"
[expect]
min_final = 3
within = "2min"
[[step]]
at = "slot 7 + 300ms"
for = "1s"
nodes = ["leader", "leader-1", 2, "3", "any"]
fault = "kill"
machine = "all"
power = true
[[step]]
at = "12s"
nodes = ["all"]
fault = "clock"
by = "-1.25s"
[[step]]
at = "12s"
nodes = ["others", 1]
fault = "hold-votes"
vote = "confirmation"
delay = "1s"
[[step]]
at = "13s"
nodes = ["any"]
fault = "actor-slow"
actor = "tx_pool"
spread = "2s"
delay = "300ms"
count = 4
[[step]]
at = "13s"
nodes = ["all"]
fault = "actor-hang"
actor = "any"
"#,
    )
    .expect("all of it is known");
    let plan = scenario.plan(1);
    assert_eq!(
        (
            plan.world.nodes,
            plan.world.tolerated(),
            plan.world.quorum()
        ),
        (7, 2, 5)
    );
    assert_eq!((plan.world.slot_ms, plan.world.drift_ms), (2_000, 400));
    assert_eq!(
        (plan.world.forger, plan.world.left_dead.clone()),
        (Some(7), vec![1])
    );
    assert_eq!(
        (plan.world.link.latency_ms, plan.world.link.loss_ppm),
        (20, 7)
    );
    assert_eq!((plan.workload.users, plan.workload.pause_ms), (1, 1_500));
    assert_eq!(
        (plan.expect.min_final, plan.expect.within),
        (3, Some(Ms(120_000)))
    );
    assert_eq!(
        (plan.seed, plan.mutant.as_deref()),
        (Some(7), Some("lock-not-persisted"))
    );
    assert_eq!((scenario.seed(None), scenario.seed(Some(3))), (7, 3));
    let kill = &plan.steps[0];
    assert_eq!((kill.at, kill.for_ms), (When::Slot(7, 300), Some(1_000)));
    let nodes = [
        NodeRef::Leader(0),
        NodeRef::Leader(-1),
        NodeRef::Number(2),
        NodeRef::Number(3),
        NodeRef::Any,
    ];
    assert_eq!(kill.nodes, nodes);
    assert_eq!(
        (plan.steps[1].at, plan.steps[1].for_ms),
        (When::At(12_000), None)
    );
    let faults: Vec<String> = plan
        .steps
        .iter()
        .map(|step| step.fault.to_string())
        .collect();
    let expected = [
        "kill machine all power",
        "clock by -1250ms",
        "hold-votes delay 1s vote confirmation",
        "actor-slow actor tx_pool count 4 delay 300ms spread 2s",
        "actor-hang actor any spread 0s",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn mistakes_are_told_with_place_and_nearest_word() {
    const STEP: &str = "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"kill\"\n";
    let table = [
        ("covres = []", 3, 1, "did you mean `covers`?"),
        (
            "[[step]]\nat = \"45s\"\nnodes = [1]\nfault = \"kill\"",
            4,
            6,
            "before `until`, which is 30000ms",
        ),
        (
            "[[step]]\nat = \"slot 31\"\nnodes = [1]\nfault = \"kill\"",
            4,
            6,
            "never begin",
        ),
        ("[world]\nnods = 4", 4, 1, "did you mean `nodes`?"),
        ("[world]\nnodes = 40", 4, 9, "from 1 to 15"),
        ("[world]\nslot = \"500ms\"", 4, 8, "from 1s to 60s"),
        ("[world]\nslot = \"5\"", 4, 8, "a duration is 250ms, 12s"),
        ("[world]\ndrift = \"1s\"", 4, 9, "below the slot"),
        (
            "[world]\nfault_model = \"byzantin\"",
            4,
            15,
            "did you mean `byzantine`?",
        ),
        (
            "[world]\nfault_model = \"crash\"\nforger = 1",
            5,
            10,
            "byzantine",
        ),
        ("[world]\nleft_dead = [1, 2]", 4, 13, "at most 1"),
        ("[world]\nforger = 1\nleft_dead = [2]", 5, 13, "at most 1"),
        ("[world]\nrejoin_margin = 0", 4, 17, "rejoin_margin: from 1"),
        (
            "[world]\nbyzantine = [{ node = 1, conduct = \"twin\" }]",
            4,
            36,
            "did you mean `twins`?",
        ),
        (
            "[world]\nbyzantine = [{ node = 5, conduct = \"twins\" }]",
            4,
            13,
            "different authorities from 1 to 4",
        ),
        (
            "[world]\nbyzantine = [{ node = 1, conduct = \"lie\" }, \
             { node = 2, conduct = \"lie\" }]",
            4,
            13,
            "at most 1",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"squeeze\"\nkbytes_per_s = 0",
            7,
            16,
            "at least 1",
        ),
        ("[world]\ncandidates = 1", 4, 14, "with governance only"),
        (
            "[world]\nnodes = 3\ncandidates = 2\ngovernance = true",
            5,
            14,
            "beside at least 2 of the 3 nodes",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"change-federation\"\n\
             change = \"add\"\nauthority = 5",
            7,
            10,
            "needs `governance = true`",
        ),
        (
            "[world]\nmailboxes = { chain = 31 }",
            4,
            13,
            "chain from 32 to 1024",
        ),
        (
            "[world]\nmailboxes = { chian = 40 }",
            4,
            13,
            "did you mean `chain`?",
        ),
        (
            "[world]\nlimits = { uncertified = 3 }",
            4,
            10,
            "uncertified from 4 to 64",
        ),
        (
            "[world]\nlimits = { range = 300000 }\n[workload]\nblock_gas = 3000000",
            6,
            13,
            "with a limit of ranges",
        ),
        ("[workload]\nusers = 200", 4, 9, "at most 32"),
        ("[workload]\ndata = 0", 4, 8, "from 1 to 100000"),
        ("[workload]\nbehaviours = []", 4, 14, "at least one"),
        ("[workload]\npool = 3", 4, 8, "from 16 to 10240"),
        (
            "[workload]\nblock_gas = 100",
            4,
            13,
            "from 2000000 to 30000000",
        ),
        (
            "[swarm]\nleast = 4\nmost = 2",
            3,
            1,
            "least must not exceed most",
        ),
        (
            "[swarm]\nleast = 1\nmost = 2\nkinds = [\"stepped-clok\"]",
            6,
            10,
            "did you mean `stepped-clock`?",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"kil\"",
            6,
            9,
            "did you mean `kill`?",
        ),
        (
            "[[step]]\nat = \"soon\"\nnodes = [1]\nfault = \"kill\"",
            4,
            6,
            "a moment is",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [\"lead\"]\nfault = \"kill\"",
            5,
            10,
            "a node is a number from 1",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [5]\nfault = \"kill\"",
            5,
            9,
            "there is no node 5",
        ),
        (
            "[[step]]\nat = \"5s\"\nfault = \"kill\"",
            3,
            1,
            "needs `nodes`",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"slow-disk\"",
            3,
            1,
            "slow-disk needs `delay`",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfor = \"x\"\nfault = \"reset\"",
            6,
            7,
            "a duration is",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"kill\"\npowr = true",
            7,
            1,
            "did you mean `power`?",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"reset\"\nfro = \"1s\"",
            7,
            1,
            "did you mean `for`?",
        ),
        (
            "mutant = \"lock-not-persistd\"",
            3,
            10,
            "did you mean `lock-not-persisted`?",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"actor-panik\"",
            6,
            9,
            "did you mean `actor-panic`?",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"actor-hang\"",
            3,
            1,
            "needs `actor`",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"actor-hang\"\nactor = \"storag\"",
            7,
            9,
            "did you mean `storage`?",
        ),
        (
            "[[step]]\nat = \"5s\"\nnodes = [1]\nfault = \"actor-slow\"\n\
             actor = \"storage\"\ndelay = \"1s\"\ncount = 0",
            9,
            9,
            "count: from 1 to 1000",
        ),
    ];
    for (rest, line, column, expected) in table {
        match read(rest) {
            Err(
                error @ ScenarioError::Wrong {
                    line: found_line,
                    column: found_column,
                    ..
                },
            ) => {
                let text = error.to_string();
                assert!(text.contains(expected), "{rest}: {text}");
                assert_eq!((found_line, found_column), (line, column), "{rest}: {text}");
                assert!(
                    text.starts_with(&format!("scenarios/test.toml:{line}:{column}: ")),
                    "{text}"
                );
                assert!(!text.contains('\n'), "{text}");
            }
            other => panic!("{rest}: {other:?}"),
        }
    }
    let misplaced = read(&format!("{STEP}vote = \"approval\""))
        .expect_err("not a word of kill")
        .to_string();
    assert!(
        misplaced.contains("unknown word `vote` for kill, expected one of `machine`, `power`"),
        "{misplaced}"
    );
    let count = read(
        "[[step]]\nat = \"5s\"\nnodes = [\"all\"]\n\
         fault = \"kill-all-on-votes\"\nvote = \"approval\"\ncount = 9",
    );
    assert!(
        count
            .expect_err("there are four")
            .to_string()
            .contains("at most the 4 named nodes")
    );
    assert!(
        parse("x.toml", "why = \" \"\nuntil = \"1s\"")
            .expect_err("empty")
            .to_string()
            .contains("`why`")
    );
    assert!(
        parse("x.toml", "until = \"1s\"")
            .expect_err("none")
            .to_string()
            .contains("missing field `why`")
    );
}

#[test]
fn unknown_scenarios_are_told_with_the_known_ones() {
    let error = load("stedy").expect_err("misspelt").to_string();
    assert!(
        error.starts_with("no scenario \"stedy\"; did you mean `steady`?")
            && error.contains("mixed"),
        "{error}"
    );
    assert!(matches!(
        load("none/such.toml"),
        Err(ScenarioError::Unreadable { .. })
    ));
}

#[test]
fn distances_count_edits() {
    for (from, to, expected) in [
        ("", "", 0),
        ("a", "", 1),
        ("kill", "kil", 1),
        ("stop", "step", 1),
        ("dog", "cat", 3),
    ] {
        assert_eq!(distance(from, to), expected, "{from} {to}");
    }
}

#[test]
fn a_plan_is_written_as_it_is_read() {
    let drawn = load("mixed").expect("the file is there");
    let files = list().expect("the directory is there");
    let plans = (0..300).map(|seed| drawn.plan(seed));
    let plans = plans.chain(
        files
            .keys()
            .map(|name| load(name).expect("it is read").plan(1)),
    );
    for plan in plans {
        let plan = Plan {
            seed: Some(7),
            mutant: Some("quorum-unchecked".to_owned()),
            ..plan
        };
        let text = to_toml(&plan);
        let read =
            parse(&format!("{}.toml", plan.name), &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(read.plan, plan, "{text}");
        assert_eq!(read.swarm, None);
        let json = serde_json::to_string(&plan).expect("plans are data");
        assert_eq!(
            serde_json::from_str::<Plan>(&json).expect("its own form"),
            plan,
            "{json}"
        );
    }
    let odd = Plan {
        name: "odd".to_owned(),
        why: "A \"quoted\" \\ reason.".to_owned(),
        ..Plan::default()
    };
    let odd = Plan { until_ms: 1, ..odd };
    assert_eq!(
        parse("odd.toml", &to_toml(&odd)).map(|read| read.plan),
        Ok(odd)
    );
}

#[test]
fn the_schema_of_the_editors_is_that_of_the_program() {
    let file = directory().join("scenario.schema.json");
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == schema(),
        "write it: cargo sim describe --schema > scenarios/scenario.schema.json"
    );
    for (name, path) in list().expect("the directory is there") {
        let text = std::fs::read_to_string(&path).expect("it is there");
        let first = text.lines().next().unwrap_or_default();
        let target = first
            .strip_prefix("#:schema ")
            .unwrap_or_else(|| panic!("{name} begins with #:schema"));
        assert!(
            path.parent().expect("a directory").join(target).is_file(),
            "{name}: {target}"
        );
    }
}

#[test]
fn the_words_of_an_enum_are_read_as_its_values() {
    let machines: Vec<Machine> = words::<Machine>()
        .iter()
        .map(|word| serde_json::from_value(serde_json::json!(word)).expect("a machine"))
        .collect();
    assert_eq!(machines, Machine::CHOICES);
    assert_eq!(words::<FaultModelWord>(), ["byzantine", "crash"]);
    for word in words::<FaultModelWord>() {
        let text = format!("[world]\nfault_model = \"{word}\"\n");
        assert!(read(&text).is_ok(), "{word}");
    }
    for role in MachineRole::ALL {
        assert!(words::<Machine>().iter().any(|word| word == role.word()));
    }
}

#[test]
fn the_schema_knows_every_kind_of_fault_and_its_words() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).expect("it is JSON");
    let kinds = schema["$defs"]["Step"]["oneOf"]
        .as_array()
        .expect("one for each kind");
    assert_eq!(kinds.len(), faults::kinds().count());
    let kill = kinds
        .iter()
        .find(|kind| kind["title"] == "kill")
        .expect("it is a kind");
    assert_eq!(
        kill["required"],
        serde_json::json!(["at", "nodes", "fault"])
    );
    let words: Vec<&String> = kill["properties"]
        .as_object()
        .expect("an object")
        .keys()
        .collect();
    assert_eq!(words, ["at", "fault", "for", "machine", "nodes", "power"]);
    let guide = guide_of_faults();
    assert!(
        guide.contains("delay [machine]") && guide.contains("[held] [way]"),
        "{guide}"
    );
}
