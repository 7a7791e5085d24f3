//! Titles and explanations of broken invariants, shown on the report pages.

/// Name of the invariant, title and explanation. An invariant without an entry shows its fields
/// only.
const TABLE: &[(&str, &str, &str)] = &[
    (
        "two-final-blocks",
        "Two blocks are final at one height",
        "Finality is a promise for ever, and two nodes have made different ones. Look for the two quorums of confirmations, and \
         for a node that is in both: it signed what its own earlier signature forbids, or it forgot that signature.",
    ),
    (
        "finality-went-back",
        "A node's finality went back",
        "The node had called a higher block final before, perhaps in an earlier life. Look for a restart between the two, and \
         for what the disk lost.",
    ),
    (
        "final-without-quorum",
        "A block is final without a quorum",
        "The node calls a block final for which fewer authorities have signed confirmations than a quorum. Either it counts \
         wrongly, or it took a certificate that it did not check.",
    ),
    (
        "certified-beside-final",
        "A certificate beside a confirmed block",
        "A quorum had confirmed a block, and in a later slot a quorum approved one that cannot descend from it. Some node \
         approved against its own lock: find who signed both, and what became of its lock in between.",
    ),
    (
        "signed-twice",
        "An authority signed two blocks in one slot",
        "A correct node signs at most one block of a kind in a slot, over all its lives. Look for a crash or a step of its clock \
         between the two signatures, and whether the first one was on its disk before it left.",
    ),
    (
        "signed-backwards",
        "An authority signed in a slot below an earlier one",
        "Slots of a node's proposals and approvals only rise. Look at its clock, and at what its vote file held when it started.",
    ),
    (
        "confirmed-below-approval",
        "An authority confirmed below its approval",
        "Whoever has approved in a slot must not confirm a block of an earlier one any more.",
    ),
    (
        "approved-invalid",
        "An authority approved a block that breaks a rule",
        "Its leader, slot, height or payload is not what follows from its parent. A correct node sees that without executing it; look \
         at what proposed it, and at the node's check of blocks.",
    ),
    (
        "votes-lost",
        "A node holds its vote state for lost",
        "It keeps silent, as it must when its disk was wiped; but nobody wiped it.",
    ),
    (
        "voted-while-silent",
        "An authority without its votes signed",
        "Its disk was emptied or put back, so it may have forgotten what it signed. Until a block after its margin is final to it, \
         every signature may contradict an earlier one.",
    ),
    (
        "rejoined-early",
        "An authority without its votes took part again too early",
        "It says that it may vote, and no block after its margin, and after the last slot that it signed for, is final to it.",
    ),
    (
        "loss-unnoticed",
        "Lost votes went unnoticed",
        "The scenario empties disks, or puts them back, and demands that so many authorities say that their votes are lost. Look \
         whether their peers told them which of their votes they hold.",
    ),
    (
        "never-at-rest",
        "An actor never came to rest",
        "Everything had healed and users had stopped, and yet something waited in its mailbox, or was in its hand, whenever it was \
         looked at, or a message that it took is nowhere.",
    ),
    (
        "memory-unbounded",
        "The process took too much memory",
        "All nodes of a run together take some hundreds of MiB. Look for a queue or a map without a bound.",
    ),
    (
        "wrongly-accused",
        "Evidence against somebody who did nothing wrong",
        "The node says that an authority contradicted itself, and the authority did not.",
    ),
    (
        "wrong-leader",
        "A proposal in a slot of somebody else",
        "The slot has another leader. Look at the clock of the node, and at its count of slots.",
    ),
    (
        "state-differs",
        "One block, two results",
        "The execution client of a node does not have the block or the state that consensus made final.",
    ),
    (
        "no-progress",
        "No progress after everything healed",
        "All faults were over, enough nodes were up, and finality did not move as far as it must within the time. Look at the end \
         of the run: who still proposes, who still signs, and what the others wait for.",
    ),
    (
        "too-few-blocks",
        "Fewer final blocks than the scenario demands",
        "When the chaos ended, a node had not come as far as the scenario says that it must in spite of the faults.",
    ),
    (
        "error-line",
        "A node wrote an ERROR line",
        "An ERROR is a bug or a stop. Nothing that the world does to a node is one, but for damage to its own disk.",
    ),
    (
        "process-ended",
        "A process ended by itself",
        "Nobody asked it to, and its disk was not made to fail.",
    ),
    (
        "execution-behind",
        "An execution client misses final blocks",
        "After everything healed, the client did not get a block that its node calls final.",
    ),
    (
        "acknowledged-lost",
        "An acknowledged transaction is gone",
        "It was seen in a final block, and is not there any more or is in another one.",
    ),
    (
        "wrong-balance",
        "An account does not hold what it should",
        "The transactions of the final chain leave the account another balance, nonce or count than the client says.",
    ),
    (
        "refused-is-final",
        "A refused transaction is final",
        "Every execution client that it was given to has refused it, or it can never be valid: and yet it is in a final block. Look \
         at what the client of the block's leader checks before it takes a transaction, and at who else passes transactions on.",
    ),
    (
        "wrongly-taken",
        "A client took what it must refuse",
        "The transaction is badly signed, of another chain, or cannot pay for itself, and the client answered with its hash.",
    ),
    (
        "not-a-transition",
        "A node took a step that the model does not know",
        "What the node signed is not allowed after what it signed before, by the rule of docs/model.md; or it was asked where it \
         stands and remembers less than it signed. Look for a restart in between, and for what was on its disk by then.",
    ),
    (
        "actor-not-healed",
        "An actor did not recover",
        "It was struck, and its supervisor did not have it running in time, or something else in the node's tree is not well.",
    ),
    (
        "not-final-after-fault",
        "Finality did not go on after an actor was struck",
        "The actor runs again and nothing else is wrong, and yet the node does not follow the chain.",
    ),
    (
        "approved-below-lock",
        "An authority approved below its lock",
        "It had confirmed a block, and then approved one whose parent is of an earlier slot. Look for what became of its lock: a \
         restart between the two, or a certificate that it took for a newer one.",
    ),
    (
        "approved-out-of-slot",
        "An authority signed before the slot had come",
        "By its own clock the slot was still to come. Look for steps of that clock, and for how the node counts slots.",
    ),
    (
        "voted-by-jumped-clock",
        "An authority voted by a clock that had jumped",
        "After a jump a node has to wait until others confirm its time. It signed before.",
    ),
    (
        "approved-unexecuted",
        "An authority approved what it had not executed",
        "Its own execution client did not have the block when it signed. Look at what the client answered, and what the node took \
         the answer for.",
    ),
    (
        "certified-without-quorum",
        "A certified block without a quorum",
        "A node builds on a block, or calls it certified, that fewer authorities have approved than a quorum. Either it counts \
         wrongly, or it took a certificate that it did not check.",
    ),
    (
        "wrong-timestamp",
        "The time of a block is not that of its slot",
        "Every block of a slot has one time, so that executing it gives the same everywhere.",
    ),
    (
        "head-beside-final",
        "A head that does not descend from the final block",
        "The node follows a fork that finality has left behind. Look at the choice of its head around the last final block.",
    ),
    (
        "honest-peer-banned",
        "A node shut out another that does nothing wrong",
        "What it took for an offence was none. Look at what was sent just before, and at faults that could have bent it.",
    ),
    (
        "wrong-headers",
        "An answer that is no piece of the chain",
        "What was served is what was stored: look at what the node's storage went through before.",
    ),
    (
        "served-too-much",
        "A node served more than any rate allows",
        "A stranger can keep it busy. Look at the limits of the network service, and at who asked.",
    ),
    (
        "message-lost",
        "A message that a mailbox had taken is nowhere",
        "It was neither handled, nor given back, nor lost with its process.",
    ),
    (
        "queue-overrun",
        "More waits in a mailbox than it may hold",
        "The limit of the mailbox was passed: something puts messages in beside the count.",
    ),
    (
        "order-broken",
        "A message overtook another of the same sender",
        "Messages of one sender to one actor are handled in the order in which they were sent.",
    ),
    (
        "ask-late",
        "A question was not over when it had to be",
        "Every question ends with an answer or a reason, within its time.",
    ),
    (
        "two-incarnations",
        "Two incarnations of one actor",
        "A part of a dead one goes on beside the living one. Look at how it was ended: by a panic, a hang, or a pause.",
    ),
    (
        "restarts-beyond-policy",
        "More restarts than the policy allows",
        "A supervisor should have given up. Look at how it counts, and over which time.",
    ),
    (
        "gave-up-early",
        "A supervisor gave up too early",
        "Its policy had restarts left.",
    ),
    (
        "silent-leader",
        "An authority leads to nothing",
        "Everything had healed, and yet no block of this authority became final for rounds: it does not propose, or nobody follows.",
    ),
    (
        "replay-differs",
        "The chain replayed gives another state",
        "A fresh execution client was given the final chain, and does not come to the state that consensus agreed on.",
    ),
    (
        "heads-differ",
        "A node and its execution client are at different heads",
        "At rest they must be at the same block. Look at the last orders that the node gave to the client.",
    ),
    (
        "canary",
        "The canary",
        "The planted bug that always fails was found, as it must be.",
    ),
    (
        "panicked",
        "The program panicked",
        "Or its process ended without an outcome. The message is all that is left of it; run the seed again with --log debug.",
    ),
    (
        "escaped",
        "The run tried to escape",
        "It asked the system for something that is not of the simulation: a clock, randomness, a file, a socket, a thread. Such a \
         run cannot be repeated.",
    ),
    (
        "hung",
        "The run did not end in order",
        "Something took longer than it may, or never ended. Look at what happened last.",
    ),
];

/// Returns the title and the explanation of an invariant; an unknown name becomes the title.
pub fn explain(name: &str) -> (String, &'static str) {
    match TABLE.iter().find(|(known, ..)| *known == name) {
        Some((_, title, text)) => ((*title).to_owned(), text),
        None => {
            let mut title = name.replace('-', " ");
            title.get_mut(..1).map(str::make_ascii_uppercase);
            (title, "")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::Violation;

    #[test]
    fn every_invariant_is_explained() {
        let unknown =
            serde_json::from_str::<Violation>("{\"invariant\":\"?\"}").expect_err("there is none");
        let text = unknown.to_string();
        let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        assert!(known.len() >= TABLE.len(), "{text}");
        for name in known {
            assert!(
                !explain(name).1.is_empty(),
                "{name} has no explanation in this file"
            );
        }
    }

    #[test]
    fn an_unknown_invariant_is_shown_by_its_name() {
        assert_eq!(explain("some-thing"), ("Some thing".to_owned(), ""));
    }
}
