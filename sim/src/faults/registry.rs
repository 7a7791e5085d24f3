//! The table of faults, collected from the files of the subjects. The parser of plans, the schema,
//! the guide, the generator and the tables of coverage all use it.
//!
//! To add a kind, work in the file of its subject (`network clocks process disk execution votes
//! actors federation writes paths contention`):
//!
//! 1. Declare it with [`declare!`]: its name, its sentence, its values.
//! 2. Implement [`Kind`]: its effects by counter, its drawings with the next number
//!    ([`Drawing::number`]), its check, begin and end. State that lasts as long as the step belongs
//!    into [`super::settings`] or a counted state of [`Faults`], because steps overlap.
//!    A time drawn for each machine needs a task that draws from `hit.draws` and waits with
//!    `Faults::wait_until`, as that of `CrashAgain` does.
//! 3. Add it to the `subject!` list, and a row to the table at the end of the file: `Row::lasting`
//!    if the effect lasts as long as the step, `Row::passing` if it ends by itself.
//! 4. Print the schema of scenario files: `cargo sim describe --schema >
//!    scenarios/scenario.schema.json`.
//! 5. Add a step to `scenarios/every_fault.toml`, and a scenario of its own.
//!
//! An effect that [`Faults`] cannot produce yet gets its lever first: in `crates/runtime/src/sim/`
//! for links, disks, clocks and processes, in the message interceptor in `sim/src/peers/` for
//! single messages, in the fault injector of the embedded execution client for its answers.
//!
//! To add a subject, add its file as a module, a line to `subjects!` below, and its category with a
//! colour in `sim/src/report/page.css`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};

use alys_runtime::sim::Rng;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::draw::Drawing;
use super::{
    Faults, Machine, actors, clocks, contention, disk, execution, federation, lock, network, paths,
    process, votes, writes,
};
use crate::events::FaultCategory;
use crate::params::{Ms, NodeRef, When, WorldPlan};

/// An invalid value: its name in scenario files, and the reason.
pub type WrongValue = (&'static str, String);

/// The name and the sentence of a kind of fault; [`declare!`] implements it.
pub trait Words:
    fmt::Debug + Clone + Send + Sync + Serialize + DeserializeOwned + JsonSchema + 'static
{
    /// The name in scenario files and reports.
    const NAME: &'static str;
    /// The sentence in the guide and the schema.
    const SENTENCE: &'static str;
}

/// The surroundings of a fault in its plan.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The network of the run.
    pub world: &'a WorldPlan,
    /// The targets of the step.
    pub nodes: &'a [NodeRef],
    /// The duration of the step in milliseconds; `None`: until everything heals.
    pub for_ms: Option<u64>,
}

impl Place<'_> {
    /// The least and the most authorities that the targets stand for. They differ where two targets
    /// can name one authority.
    pub fn count_nodes(&self) -> std::ops::RangeInclusive<usize> {
        let all = usize::from(self.world.nodes);
        let names = |wanted: fn(&NodeRef) -> bool| self.nodes.iter().filter(move |n| wanted(n));
        let numbers = names(|name| matches!(name, NodeRef::Number(_)));
        let numbers = numbers.collect::<Vec<_>>();
        let distinct = (0..numbers.len()).filter(|at| !numbers[..*at].contains(&numbers[*at]));
        let numbers = distinct.count();
        let leaders = names(|name| matches!(name, NodeRef::Leader(_))).count();
        let any = names(|name| *name == NodeRef::Any).count();
        let named = if self.nodes.contains(&NodeRef::All) {
            all..=all
        } else {
            let least = numbers.max(leaders.min(1)) + any;
            least.min(all)..=(numbers + leaders + any).min(all)
        };
        if self.nodes.contains(&NodeRef::Others) {
            all - named.end()..=all - named.start()
        } else {
            named
        }
    }
}

/// A kind of fault. The fields of the implementing type are the fault's values in scenario files; a
/// field with a default is optional.
pub trait Kind: Words {
    /// The drawings with which the generator adds this kind to random plans. Empty if a drawing of
    /// another kind includes it.
    const DRAWINGS: &'static [Drawing];

    /// The counters of a run that the kind increases, at its beginning, at its end or by its effect
    /// on a busy machine. A sweep reports those that no run increased; runs of the scenario
    /// `every_fault` must increase all (`every_kind_of_fault_has_its_effects` in
    /// `sim/tests/command_line.rs`).
    const EFFECTS: &'static [&'static str];

    /// True if the fault has no end.
    const IS_INSTANT: bool = false;

    /// Checks the values against the network of a run, and against the other values of the step.
    ///
    /// # Errors
    /// The first value that is invalid.
    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        let _ = place;
        Ok(())
    }

    fn begin(&self, faults: &Faults, hit: &Hit);

    /// Ends the fault. The default does nothing, for faults that are instant or end by themselves.
    fn end(&self, faults: &Faults, hit: &Hit) {
        let _ = (faults, hit);
    }
}

/// Declares a kind: `"name": "Sentence." Type { fields }`.
macro_rules! declare {
    ($name:literal: $sentence:literal $kind:ident { $($fields:tt)* }) => {
        #[doc = $sentence]
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $kind { $($fields)* }

        impl $crate::faults::registry::Words for $kind {
            const NAME: &'static str = $name;
            const SENTENCE: &'static str = $sentence;
        }
    };
}
pub(super) use declare;

/// Implements `begin` and `end` of [`Kind`] by one method of the type, `set`, whose last argument
/// is `true` at the beginning and `false` at the end.
macro_rules! mirrored {
    () => {
        fn begin(&self, faults: &$crate::faults::Faults, hit: &$crate::faults::registry::Hit) {
            self.set(faults, hit, true);
        }

        fn end(&self, faults: &$crate::faults::Faults, hit: &$crate::faults::registry::Hit) {
            self.set(faults, hit, false);
        }
    };
}
pub(super) use mirrored;

/// Lists the kinds of a file: defines its `KINDS` and `read`.
macro_rules! subject {
    ($($kind:ident),* $(,)?) => {
        /// The kinds of this subject.
        pub const KINDS: &[$crate::faults::registry::Entry] =
            &[$($crate::faults::registry::Entry::of::<$kind>()),*];

        /// Deserializes the values of the kind with this name.
        pub fn read<'de, A: serde::de::VariantAccess<'de>>(
            name: &str,
            values: A,
        ) -> Result<$crate::faults::Fault, A::Error> {
            $(if name == <$kind as $crate::faults::registry::Words>::NAME {
                return values.newtype_variant::<$kind>().map(Into::into);
            })*
            Err(serde::de::Error::unknown_variant(name, &[]))
        }
    };
}
pub(super) use subject;

/// An entry of the table: the properties of a kind.
#[derive(Debug)]
pub struct Entry {
    /// The name in scenario files and reports.
    pub name: &'static str,
    /// The sentence in the guide and the schema.
    pub sentence: &'static str,
    /// The drawings with which the generator adds the kind to random plans.
    pub drawings: &'static [Drawing],
    /// The counters that the kind increases.
    pub effects: &'static [&'static str],
    /// True if the fault has no end.
    pub is_instant: bool,
    /// The schema of the values.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Entry {
    pub const fn of<K: Kind>() -> Self {
        Self {
            name: K::NAME,
            sentence: K::SENTENCE,
            drawings: K::DRAWINGS,
            effects: K::EFFECTS,
            is_instant: K::IS_INSTANT,
            schema: K::json_schema,
        }
    }
}

/// A subject: a file of kinds.
#[derive(Debug)]
pub struct Subject {
    /// The category of the subject's faults in reports.
    pub category: FaultCategory,
    /// The machines of an authority that a fault without a `machine` value hits.
    pub machine: Machine,
    pub kinds: &'static [Entry],
    /// The table of the test of its kinds.
    #[cfg(test)]
    pub rows: fn() -> Vec<super::testbed::Row>,
}

macro_rules! subjects {
    ($($subject:ident: $category:ident, $machine:ident;)*) => {
        /// All subjects.
        pub const SUBJECTS: &[Subject] = &[$(Subject {
            category: FaultCategory::$category,
            machine: Machine::$machine,
            kinds: $subject::KINDS,
            #[cfg(test)]
            rows: $subject::rows,
        }),*];

        fn read<'de, A: VariantAccess<'de>>(name: &str, values: A) -> Result<Fault, A::Error> {
            $(if $subject::KINDS.iter().any(|kind| kind.name == name) {
                return $subject::read(name, values);
            })*
            Err(de::Error::unknown_variant(name, names()))
        }
    };
}

subjects! {
    network: Network, Node;
    clocks: Time, All;
    process: Process, Node;
    disk: Disk, Node;
    execution: Execution, Execution;
    votes: Process, Node;
    actors: Actor, Node;
    federation: Federation, Node;
    writes: Disk, Node;
    paths: Network, Node;
    contention: Actor, Node;
}

/// All kinds, in the order of the guide.
pub fn kinds() -> impl Iterator<Item = &'static Entry> {
    SUBJECTS.iter().flat_map(|subject| subject.kinds)
}

fn names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| kinds().map(|kind| kind.name).collect());
    &NAMES
}

/// The targets of a step that has begun. They stay the same until it ends.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The authorities, from 0.
    pub nodes: BTreeSet<u8>,
    /// The step's number, in the order in which steps begin. State that lasts until the step ends
    /// is stored under it.
    pub number: u64,
    /// The random stream of the step.
    pub draws: Draws,
}

/// A random stream. Clones share it.
#[derive(Debug, Clone)]
pub struct Draws(Arc<Mutex<Rng>>);

impl Draws {
    pub fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(rng)))
    }

    /// Draws a number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        lock(&self.0).below(limit)
    }

    /// Draws a number from 0 to `most`.
    pub fn up_to(&self, most: u64) -> u64 {
        self.below(most.saturating_add(1))
    }

    /// The nodes in a random order.
    pub fn shuffled(&self, nodes: &BTreeSet<u8>) -> Vec<u8> {
        let mut left: Vec<u8> = nodes.iter().copied().collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let at = self.below(left.len() as u64) as usize;
            order.push(left.swap_remove(at));
        }
        order
    }
}

/// A [`Kind`] with its type erased.
trait AnyKind: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn values(&self) -> Map<String, Value>;
    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue>;
    fn begin(&self, faults: &Faults, hit: &Hit);
    fn end(&self, faults: &Faults, hit: &Hit);
}

impl<K: Kind> AnyKind for K {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn values(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(values)) => values,
            _ => Map::new(),
        }
    }

    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        Kind::check(self, place)
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        Kind::begin(self, faults, hit);
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        Kind::end(self, faults, hit);
    }
}

/// A fault of a plan: one of the kinds with its values.
#[derive(Debug, Clone)]
pub struct Fault(Arc<dyn AnyKind>);

impl<K: Kind> From<K> for Fault {
    fn from(kind: K) -> Self {
        Self(Arc::new(kind))
    }
}

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.values() == other.values()
    }
}

impl Fault {
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// The values by name, as in a scenario file.
    pub fn values(&self) -> Map<String, Value> {
        self.0.values()
    }

    /// The subject and the entry of its kind.
    fn entry(&self) -> (&'static Subject, &'static Entry) {
        let all = SUBJECTS
            .iter()
            .flat_map(|subject| subject.kinds.iter().map(move |kind| (subject, kind)));
        let mut of_kind = all.filter(|(_, kind)| kind.name == self.name());
        of_kind.next().expect("the table lists every kind of fault")
    }

    pub fn category(&self) -> FaultCategory {
        self.entry().0.category
    }

    /// The machines of each targeted authority that it hits: its value `machine`, or the default of
    /// the subject.
    pub fn machine(&self) -> Machine {
        let given = self.values().remove("machine");
        let given = given.and_then(|value| serde_json::from_value(value).ok());
        given.unwrap_or(self.entry().0.machine)
    }

    /// True if the fault has no end.
    pub fn is_instant(&self) -> bool {
        self.entry().1.is_instant
    }

    /// True if the fault hits an actor inside of a running node.
    pub fn is_strike(&self) -> bool {
        actors::KINDS.iter().any(|kind| kind.name == self.name())
    }

    /// Checks the values against the network of a run, and against the other values of the step.
    ///
    /// # Errors
    /// The first value that is invalid.
    pub fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        self.0.check(place)
    }

    pub(super) fn begin(&self, faults: &Faults, hit: &Hit) {
        self.0.begin(faults, hit);
    }

    pub(super) fn end(&self, faults: &Faults, hit: &Hit) {
        self.0.end(faults, hit);
    }
}

impl Fault {
    /// The values on one line, as `machine all power`.
    pub fn values_text(&self) -> String {
        let words = self
            .values()
            .into_iter()
            .filter_map(|(word, value)| match value {
                Value::Bool(false) => None,
                Value::Bool(true) => Some(word),
                Value::String(text) => Some(format!("{word} {text}")),
                other => Some(format!("{word} {other}")),
            });
        words.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let values = self.values_text();
        if values.is_empty() {
            Ok(())
        } else {
            write!(f, " {values}")
        }
    }
}

/// Deserializes like an enum: a table with one key, the name of the kind, whose value is the table
/// of its values.
impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Fault", names(), FaultVisitor)
    }
}

struct FaultVisitor;

impl<'de> Visitor<'de> for FaultVisitor {
    type Value = Fault;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Fault, A::Error> {
        let (name, values) = data.variant_seed(KnownName(names()))?;
        read(name, values)
    }
}

/// Deserializes one of these names. The error about an unknown one points to its position in the
/// text.
pub struct KnownName(pub &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for KnownName {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KnownName {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, given: &str) -> Result<Self::Value, E> {
        let known = self.0.iter().find(|name| **name == given);
        known
            .copied()
            .ok_or_else(|| E::unknown_variant(given, self.0))
    }
}

/// A fault with its time and its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub at: When,
    /// The duration in milliseconds. With `None` the fault lasts until the end of all faults.
    pub for_ms: Option<u64>,
    pub nodes: Vec<NodeRef>,
    pub fault: Fault,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(NodeRef::to_string).collect();
        write!(f, "{}: {} on {}", self.at, self.fault, nodes.join(", "))?;
        match self.for_ms {
            Some(ms) => write!(f, " for {}", Ms(ms)),
            None => Ok(()),
        }
    }
}

/// Defaults that several kinds share.
pub(super) mod default {
    use crate::params::Ms;

    pub fn one() -> u32 {
        1
    }

    /// Long enough for the other nodes to notice the restart.
    pub fn half_a_second() -> Ms {
        Ms(500)
    }
}

/// Refuses a value outside of its range.
pub(super) fn within(
    word: &'static str,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<(), WrongValue> {
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!(
        "{word}: from {} to {}, found {value}",
        range.start(),
        range.end()
    );
    Err((word, message))
}

/// The denominator of shares in parts per million.
pub(super) const MILLION: u32 = 1_000_000;

/// Refuses a share of more than a million parts per million.
pub(super) fn share(word: &'static str, ppm: u32) -> Result<(), WrongValue> {
    if ppm <= MILLION {
        return Ok(());
    }
    let message = format!("{word}: at most {MILLION} parts per million, found {ppm}");
    Err((word, message))
}

#[cfg(test)]
mod tests {
    use super::super::clocks::{Clock, Drift};
    use super::super::network::{Partition, Swizzle, Way};
    use super::super::process::Kill;
    use super::*;
    use crate::params::SignedMs;

    #[test]
    fn names_are_all_different_and_explained() {
        let mut known = BTreeSet::new();
        for kind in kinds() {
            assert!(known.insert(kind.name), "{}", kind.name);
            let sentence = kind.sentence;
            assert!(
                sentence.ends_with('.') && sentence.len() > 20,
                "{}: {sentence}",
                kind.name
            );
        }
        assert!(known.len() >= 47);
    }

    fn place<'a>(world: &'a WorldPlan, nodes: &'a [NodeRef], for_ms: u64) -> Place<'a> {
        Place {
            world,
            nodes,
            for_ms: Some(for_ms),
        }
    }

    #[test]
    fn a_kind_sees_how_many_nodes_its_step_hits() {
        use NodeRef::{All, Any, Leader, Number, Others};
        let world = WorldPlan::default();
        let table: [(&[NodeRef], std::ops::RangeInclusive<usize>); 7] = [
            (&[Number(1)], 1..=1),
            (&[Number(1), Number(1), Number(2)], 2..=2),
            (&[Leader(0), Leader(1)], 1..=2),
            (&[Number(1), Leader(0), Any], 2..=3),
            (&[Any, Any, Any, Any, Any], 4..=4),
            (&[All], 4..=4),
            (&[Leader(0), Number(2), Others], 2..=3),
        ];
        for (nodes, expected) in table {
            let counted = place(&world, nodes, 1).count_nodes();
            assert_eq!(counted, expected, "{nodes:?}");
        }
    }

    #[test]
    fn a_kind_refuses_a_step_that_it_cannot_act_in() {
        let world = WorldPlan::default();
        let wrong = |fault: Fault, nodes: &[NodeRef], for_ms| {
            let checked = fault.check(&place(&world, nodes, for_ms));
            checked.err().map(|(word, _)| word)
        };
        let partition = || {
            Fault::from(Partition {
                way: Way::Both,
                held: false,
            })
        };
        assert_eq!(wrong(partition(), &[NodeRef::Any], 1), None);
        assert_eq!(wrong(partition(), &[NodeRef::All], 1), Some("nodes"));
        let swizzle = || Fault::from(Swizzle { spread: Ms(500) });
        assert_eq!(wrong(swizzle(), &[NodeRef::All], 500), None);
        assert_eq!(wrong(swizzle(), &[NodeRef::All], 499), Some("spread"));
    }

    #[test]
    fn a_fault_is_printed_on_one_line() {
        let kill = Fault::from(Kill {
            machine: Machine::All,
            power: true,
        });
        assert_eq!(kill.to_string(), "kill machine all power");
        let clock = Fault::from(Clock {
            by: SignedMs(-1_500),
        });
        assert_eq!(clock.to_string(), "clock by -1500ms");
        assert_eq!(Fault::from(Drift { ppm: 7 }).to_string(), "drift ppm 7");
    }
}
