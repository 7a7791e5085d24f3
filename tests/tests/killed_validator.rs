//! Four `alys node` processes with embedded execution, killed by `kill -9`.

use std::thread;
use std::time::Duration;

use alys_tests::federation::{Federation, Ledger, Setup, check_sound};
use alys_tests::{Process, World, scenario};
use anyhow::{Context, Result, ensure};

const SLOT_MS: u64 = 1500;
/// Longer than any wait on a busy machine.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

/// The members, running or not.
struct Running<'a> {
    world: &'a World,
    federation: &'a Federation,
    nodes: Vec<Option<Process>>,
    ledger: Ledger,
}

impl Running<'_> {
    fn start(&mut self, index: usize) -> Result<()> {
        self.world.say(&format!("start {index}"));
        self.nodes[index] = Some(self.federation.start(self.world, index, &[])?);
        Ok(())
    }

    fn node(&self, index: usize) -> &Process {
        self.nodes[index]
            .as_ref()
            .expect("the test reads running nodes only")
    }

    fn height(&self, index: usize) -> u64 {
        self.node(index).written(|written| written.height())
    }

    /// Sends SIGKILL and adds the final blocks reported until then.
    fn kill(&mut self, index: usize) -> Result<()> {
        self.world.say(&format!(
            "kill -9 {index} at final block {}",
            self.height(index)
        ));
        let mut node = self.nodes[index]
            .take()
            .expect("the test kills running nodes only");
        node.kill()?;
        check_sound(&format!("node {index}"), &node)?;
        self.ledger.take(&format!("node {index}"), &node)
    }

    fn wait_final(&self, index: usize, height: u64) -> Result<()> {
        self.node(index)
            .wait_final(self.world, height, PROGRESS_TIMEOUT)?;
        self.world
            .say(&format!("node {index} has final block {height}"));
        Ok(())
    }

    /// Waits until a block that `by` proposed after `slot` is final on `on`.
    fn wait_proposed(&self, by: u64, slot: u64, on: usize) -> Result<()> {
        let found = self.node(on).wait(
            self.world,
            &format!("a final block of authority {by} after slot {slot}"),
            PROGRESS_TIMEOUT,
            |written| {
                let mut finals = written.finals.iter().map(|(_, block)| block);
                finals
                    .find(|block| block.proposer == by && block.slot > slot)
                    .cloned()
            },
        )?;
        self.world.say(&format!(
            "node {on} has final block {} of authority {by}",
            found.height
        ));
        Ok(())
    }

    fn last_slot(&self, index: usize) -> u64 {
        self.node(index)
            .written(|written| written.finals.last().map_or(0, |(_, block)| block.slot))
    }

    fn take_all(&mut self) -> Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(node) = node {
                check_sound(&format!("node {index}"), node)?;
                self.ledger.take(&format!("node {index}"), node)?;
            }
        }
        Ok(())
    }
}

#[test]
fn a_killed_validator_catches_up() {
    scenario(
        "a_killed_validator_catches_up",
        Duration::from_secs(300),
        |world| {
            let federation = Federation::new(
                world,
                &Setup {
                    slot_ms: SLOT_MS,
                    ..Setup::default()
                },
            )?;
            let nodes = (0..4).map(|_| None).collect();
            let mut all = Running {
                world,
                federation: &federation,
                nodes,
                ledger: Ledger::default(),
            };
            for index in 0..4 {
                all.start(index)?;
            }
            for index in 0..4 {
                all.wait_final(index, 4)?;
            }

            // A federation of four tolerates one.
            let before = all.height(0);
            all.kill(3)?;
            for index in 0..3 {
                all.wait_final(index, before + 8)?;
            }
            all.start(3)?;
            let (slot, height) = (all.last_slot(0), all.height(0));
            all.wait_final(3, height)?;
            all.wait_proposed(3, slot, 0)
                .context("node 3 proposes again")?;
            all.wait_proposed(3, slot, 3)?;

            // It does not tolerate two.
            all.kill(1)?;
            all.kill(2)?;
            // Votes under way may still make a block final.
            thread::sleep(Duration::from_millis(2 * SLOT_MS));
            let stopped = [all.height(0), all.height(3)];
            thread::sleep(Duration::from_millis(10 * SLOT_MS));
            let later = [all.height(0), all.height(3)];
            ensure!(
                later == stopped,
                "final blocks without a quorum: {stopped:?}, then {later:?}"
            );
            world.say(&format!("no final block after {stopped:?} in ten slots"));

            all.start(1)?;
            let resumed = stopped[0].max(stopped[1]) + 4;
            for index in [0, 1, 3] {
                all.wait_final(index, resumed)?;
            }
            let slot = all.last_slot(0);
            all.start(2)?;
            all.wait_proposed(2, slot, 0)
                .context("node 2 proposes again")?;
            let end = all.height(0);
            for index in 0..4 {
                all.wait_final(index, end)?;
            }

            all.take_all()?;
            let missing: Vec<u64> = (1..=end)
                .filter(|height| all.ledger.block(*height).is_none())
                .collect();
            ensure!(
                missing.is_empty(),
                "no node reported final blocks {missing:?}"
            );
            // Wallets see the same block at every node.
            let seen: Vec<_> = (0..4)
                .map(|index| federation.rpc(index).block(&format!("{end:#x}")))
                .collect::<Result<_>>()?;
            for block in &seen {
                ensure!(
                    block["hash"] == seen[0]["hash"],
                    "execution block {end}: {seen:?}"
                );
            }
            for (index, node) in all.nodes.iter_mut().enumerate() {
                let node = node.as_mut().expect("all run");
                node.signal("TERM")?;
                let status = node.wait_end(world, Duration::from_secs(10))?;
                ensure!(status.success(), "node {index} stopped with {status}");
            }
            Ok(())
        },
    );
}
