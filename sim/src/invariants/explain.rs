//! Titles and explanations of broken invariants, shown on the report pages.

/// Name of the invariant, title and explanation. An invariant without an entry shows its fields
/// only.
const TABLE: &[(&str, &str, &str)] = &[
    (
        "two-final-blocks",
        "Two blocks are final at one height",
        "Finality is irrevocable, and two nodes finalized different blocks. Look for the two \
         quorums of confirmations, and for a node in both: it signed against its own earlier \
         signature, or it lost that signature.",
    ),
    (
        "finality-went-back",
        "A node's finality went back",
        "The node had reported a higher final block before, possibly before a restart. Look for a \
         restart between the two reports, and for data that the disk lost.",
    ),
    (
        "final-without-quorum",
        "A block is final without a quorum",
        "The node reports a block as final although fewer authorities than a quorum have signed \
         confirmations of it. Either it counts wrongly, or it accepted a certificate without \
         checking it.",
    ),
    (
        "certified-beside-final",
        "A certificate conflicts with a confirmed block",
        "A quorum had confirmed a block, and in a later slot a quorum approved one that cannot \
         descend from it. Some node approved against its own lock: find the authorities that \
         signed both, and trace their locks between the two votes.",
    ),
    (
        "signed-twice",
        "An authority signed two blocks in one slot",
        "A correct node signs at most one block with each kind of vote in a slot, across \
         restarts. Look for a crash or a clock step between the two signatures, and check that \
         the first one was on disk before it was sent.",
    ),
    (
        "signed-backwards",
        "An authority signed in a slot below an earlier one",
        "The slots of a node's votes of one kind only rise. Look at its clock, and at the \
         contents of its vote file at the start.",
    ),
    (
        "confirmed-below-approval",
        "An authority confirmed below its approval",
        "An authority that approved in a slot must not confirm a conflicting block of an earlier \
         slot.",
    ),
    (
        "signed-outside-set",
        "A vote for a block of another federation",
        "The node signed a vote for a block whose height has a federation without it. Look for \
         the last change of the federation on the branch of the block, and for the set by which \
         the node took itself for an authority.",
    ),
    (
        "too-few-changes",
        "Fewer changes of the federation than the scenario demands",
        "Governance ordered changes, and at the end of the faults fewer of them had taken effect. \
         Look for the block that carries each order, for the certificate that shows it final, and \
         for leaders that received the order and did not carry it.",
    ),
    (
        "wrong-void-changes",
        "Another number of void changes of the federation than the scenario says",
        "A change is void if no block below its effective height shows its block final. Look at \
         the certificates of confirmations in the blocks between the two.",
    ),
    (
        "approved-invalid",
        "An authority approved a block that breaks a rule",
        "Its leader, slot, height or payload does not follow from its parent. A correct node \
         detects this without executing the block; look at the proposer, and at the node's \
         validation of blocks.",
    ),
    (
        "pow-finality-went-back",
        "Finality by proof of work went back",
        "The node had reported a later range as final by proof of work, possibly before a restart. \
         Look for data that the disk lost, and for the ledger that the node loaded at its start.",
    ),
    (
        "wrong-pow-finality",
        "Another range is final by proof of work than a final block says",
        "A range is final by proof of work once the block that carries its proof is final. Look at \
         the block named, and at the ranges before it.",
    ),
    (
        "approved-past-gate",
        "An authority approved a block that the gate shuts out",
        "Too many final blocks were without a proof of work when the node approved a block without \
         one (rule 4.6). Look at the last range on the branch of its parent, and at the last final \
         block that the node had reported.",
    ),
    (
        "no-work",
        "A node has no work for miners",
        "Final blocks are without a proof, and miners get no work for them. While the gate is closed \
         the chain stops for ever. Look at the AuxPowActor, and at what the chain told it.",
    ),
    (
        "wrong-work",
        "A node handed out wrong work",
        "A proof of it could never be carried: its commitment is of no range of final blocks for the \
         address of the miner, or its bits are not those of the next slots.",
    ),
    (
        "work-wrongly-taken",
        "A node accepted a spoiled proof",
        "The miner broke the rule that `flaw` names on purpose. A leader that carries the proof makes \
         an invalid block.",
    ),
    (
        "work-wrongly-refused",
        "A node refused a valid proof",
        "The proof is of work that the node handed out and meets the target named then. `why` is the \
         answer of the node.",
    ),
    (
        "work-not-carried",
        "An accepted proof is in no final block",
        "The miner was told that its proof was accepted, and neither it nor another one of its \
         sequence is carried. Look for a restart of the node between the answer and its next turn as \
         leader.",
    ),
    (
        "too-few-ranges",
        "Fewer ranges are final by proof of work than the scenario demands",
        "Look for the proofs that nodes accepted, and for the blocks of leaders that held them.",
    ),
    (
        "votes-lost",
        "A node reports its votes as lost without a loss",
        "The node stays silent, as it must after its disk was emptied, but its disk was not \
         emptied.",
    ),
    (
        "voted-while-silent",
        "An authority signed after losing its votes",
        "Its disk was emptied or restored, so it may have forgotten earlier votes. Until a block \
         after its rejoin margin is final on the node, every signature may contradict an earlier \
         one.",
    ),
    (
        "rejoined-early",
        "An authority resumed voting too early after losing its votes",
        "It resumed voting before a block after its rejoin margin, and after the last slot in \
         which it had signed, was final on the node.",
    ),
    (
        "rejoined-late",
        "An authority stayed silent after it could vote again",
        "A block of a slot after its rejoin margin is final on the node, in the same summary that \
         still reports the silence.",
    ),
    (
        "loss-ignored",
        "An authority does not know that its votes are lost",
        "Its disk was emptied, so that its store has no vote state. It must report the loss from \
         its first message on, and stay silent.",
    ),
    (
        "loss-unnoticed",
        "Lost votes went unnoticed",
        "The scenario empties or restores disks, and demands that a number of authorities report \
         their votes as lost. Check that their peers sent them the votes that they hold.",
    ),
    (
        "never-at-rest",
        "An actor never became idle",
        "All faults and the workload had ended, but the actor had a message queued or in progress \
         at every observation, or a message that it accepted is unaccounted for.",
    ),
    (
        "memory-unbounded",
        "The process used too much memory",
        "All nodes of a run together use some hundreds of MiB. Look for a queue or a map without \
         a limit.",
    ),
    (
        "wrongly-accused",
        "Evidence against a correct authority",
        "The node reports that an authority equivocated, but the authority did not.",
    ),
    (
        "not-accused",
        "Contradicting votes without evidence",
        "The node counted two votes of one authority, kind and slot for different blocks, and did \
         not report evidence with the second. Look at the node's memory of votes.",
    ),
    (
        "wrong-leader",
        "A proposal in a slot of another leader",
        "The proposer does not lead the slot. Look at the clock of the node, and at its \
         computation of slots.",
    ),
    (
        "state-differs",
        "Two results for one final state",
        "The execution of a final block gave another state, receipt or answer than expected or \
         than on another node, or the execution client of a node lacks the block that consensus \
         finalized.",
    ),
    (
        "no-progress",
        "No progress after the faults ended",
        "All faults were over and enough nodes were up, but finality did not advance far enough \
         in time. Look at the end of the run: at the nodes that still propose, those that still \
         sign, and the messages that the others wait for.",
    ),
    (
        "block-late",
        "A calm slot has no final block in time",
        "No fault acted, all authorities ran, and everything had time to settle. The leader \
         proposes late or not at all, or a vote or certificate takes a way around.",
    ),
    (
        "silent-in-calm",
        "A node may not vote without a reason",
        "No fault acted on clocks or disks, and everything had time to settle. Look at the notices \
         of the node about its clock and its votes.",
    ),
    (
        "too-costly",
        "Blocks cost more than their budget",
        "In a calm stretch nothing is sent, requested or checked twice; a scenario may also limit \
         the signature checks of its whole chaos. Compare the metrics of the node with those of a \
         run without the change.",
    ),
    (
        "table-not-shrunk",
        "A table keeps entries that are no longer needed",
        "The run is calm and the users have stopped, so that the entries follow from the present \
         state. Look for entries of peers that are gone, requests that ended, and slots that are \
         final.",
    ),
    (
        "budget-wrong",
        "A memory budget differs from the requests and answers in progress",
        "The port has more bytes left than it began with, or lacks bytes though no request and no \
         answer is in progress. Look for a charge that was refused, or that ended with a broken \
         connection.",
    ),
    (
        "peers-missing",
        "A node does not know its peers",
        "All authorities run and no link is cut, so that all are connected to each other, and the \
         PeerActor knows the peers of the NetworkActor.",
    ),
    (
        "wrong-parent",
        "A leader built on an old block",
        "It had reported a certified block of a later slot before its own slot began. Such a block \
         is valid, and pushes out the certified one.",
    ),
    (
        "too-few-blocks",
        "Fewer final blocks than the scenario demands",
        "At the end of the faults, a node had finalized fewer blocks than the scenario demands in \
         spite of them.",
    ),
    (
        "error-line",
        "A node logged an ERROR line",
        "An ERROR is a bug or a stop. No fault of the simulator justifies one, except damage to \
         the node's own disk.",
    ),
    (
        "process-ended",
        "A process exited on its own",
        "The simulator did not stop it, and its disk was not made to fail.",
    ),
    (
        "execution-behind",
        "An execution client lacks final blocks",
        "After the faults ended, the execution client did not receive a block that its node \
         reports as final.",
    ),
    (
        "acknowledged-lost",
        "An acknowledged transaction is missing",
        "It was seen in a final block, and is now missing or in another block.",
    ),
    (
        "wrong-balance",
        "An account differs from its transactions",
        "The balance, nonce or counter that the execution client returns differs from the result \
         of the final transactions.",
    ),
    (
        "refused-is-final",
        "A refused transaction is final",
        "Every execution client that received the transaction refused it, or it can never be \
         valid, but a final block contains it. Look at the checks of the leader's execution \
         client before it accepts a transaction, and at other paths by which transactions spread.",
    ),
    (
        "wrongly-taken",
        "An execution client accepted a transaction that it must refuse",
        "The transaction has an invalid signature, is for another chain, or lacks gas or funds, \
         but the execution client answered with its hash.",
    ),
    (
        "not-a-transition",
        "A node took a step that the model forbids",
        "The rule of docs/model.md forbids the vote after the node's earlier votes, or the vote \
         state in the node's summary covers less than it signed. Look for a restart in between, \
         and for the state of its disk at that time.",
    ),
    (
        "actor-not-healed",
        "An actor did not recover",
        "A fault hit the actor, and its supervisor did not have it running again in time, or \
         another part of the node's tree is unhealthy.",
    ),
    (
        "not-final-after-fault",
        "Finality stopped after an actor fault",
        "The actor runs again and no other fault is active, but the node does not follow the \
         chain.",
    ),
    (
        "approved-below-lock",
        "An authority approved below its lock",
        "It had confirmed a block, and then approved one whose parent is of an earlier slot. \
         Trace its lock: look for a restart between the two votes, or for a certificate that it \
         took for a newer one.",
    ),
    (
        "approved-out-of-slot",
        "An authority signed before the slot began",
        "The slot had not begun on the authority's own clock. Look for steps of that clock, and \
         at the node's computation of slots.",
    ),
    (
        "voted-by-jumped-clock",
        "An authority voted while its clock had jumped",
        "After a jump a node must wait until its peers or its operator confirm the time. It \
         signed before.",
    ),
    (
        "voted-by-unconfirmed-jump",
        "An authority voted by a clock that had jumped a second time",
        "Confirmations of one time do not confirm another one: after each further jump a node must \
         wait for q - 1 votes of peers in the slots of the new time. It signed with fewer.",
    ),
    (
        "voted-by-unconfirmed-clock",
        "An authority voted by a clock that was far ahead when it started",
        "Until peers or the operator confirm such a clock, a node must not vote: its vote silences \
         it until that time. Look at the statuses that it received after its start.",
    ),
    (
        "approved-unexecuted",
        "An authority approved a block that it had not executed",
        "Its own execution client did not have the block at the time of the signature. Look at \
         the execution client's answer, and at the node's interpretation of it.",
    ),
    (
        "certified-without-quorum",
        "A certified block without a quorum",
        "A node builds on a block, or reports it as certified, that fewer authorities than a \
         quorum have approved. Either it counts wrongly, or it accepted a certificate without \
         checking it.",
    ),
    (
        "quorum-ignored",
        "A quorum of votes made no certificate",
        "The node had approved the block and counted the votes of a quorum, so that the block must \
         be certified, or final, before its next message. Look at the way of each vote to the \
         count, and at the set that it was checked against.",
    ),
    (
        "wrong-timestamp",
        "The timestamp of a block differs from its slot",
        "Every block of a slot has the same timestamp, so that its execution gives the same \
         result on all nodes.",
    ),
    (
        "head-beside-final",
        "A head does not descend from the final block",
        "The node follows a fork that conflicts with finality. Look at its fork choice around the \
         last final block.",
    ),
    (
        "honest-peer-banned",
        "A node banned a peer that follows the protocol, or an authority for load",
        "The peer did not misbehave, or it only sent too much, which costs a known peer nothing \
         (rule 7.4). Look at the messages just before the ban, and at faults that could have \
         corrupted them.",
    ),
    (
        "not-broadcast",
        "A node keeps a transaction to itself",
        "The execution client of the node took the transaction, nothing disturbed the run since, \
         and the node did not broadcast it. Look for a broadcast that another actor did not take, \
         and at the transactions that the TxPoolActor counts as announced.",
    ),
    (
        "not-mined",
        "A transaction is not mined",
        "A user gave the transaction to one node only, it is valid and can pay, and all faults \
         ended long ago. Look for its broadcast, at the nodes that received it, and at the pools \
         of the leaders.",
    ),
    (
        "honest-peer-blamed",
        "A node blames a peer that follows the protocol",
        "The node reported an offence of an honest peer, or rejected gossip that it forwarded. \
         Honest nodes check what they forward, and serve final or certified blocks only. Look at \
         the answer or message just before, and for a set, a slot or a limit by which the node \
         judged it.",
    ),
    (
        "wrong-headers",
        "An answer is not a piece of the chain",
        "Nodes serve stored headers and blocks. Look at earlier faults of the node's storage.",
    ),
    (
        "served-too-much",
        "A node exceeded its rate limits",
        "A peer can keep the node busy. Look at the limits of the network service, and at the \
         peer that sent the requests.",
    ),
    (
        "message-lost",
        "A message that a mailbox accepted is lost",
        "It was neither handled, nor returned, nor lost with its process.",
    ),
    (
        "queue-overrun",
        "A mailbox exceeds its capacity",
        "A code path adds messages to the mailbox without counting them against its capacity.",
    ),
    (
        "order-broken",
        "Messages of one sender were handled out of order",
        "An actor must handle the messages of one sender in the order in which they were sent.",
    ),
    (
        "ask-late",
        "An ask ended after its timeout",
        "Every ask must end with an answer or an error within its timeout.",
    ),
    (
        "ask-early",
        "An ask timed out too early",
        "An ask may fail at any time, but not with a timeout before its time limit.",
    ),
    (
        "dialled-too-often",
        "A node dialled an address in a loop",
        "No peer answers there: connections are closed before or after the handshake. The backoff \
         between dials doubles from 250 ms to 5 s, and only an admitted peer ends it.",
    ),
    (
        "request-overdue",
        "A request to a peer did not end in time",
        "The PeerActor must end each request: with the answer, with an error, or by giving it up. \
         A request that stays open holds a place, and its blocks are not requested again.",
    ),
    (
        "wrong-request",
        "A request that does not follow from the node's earlier events",
        "The range follows from the node's position and the height to reach; the peer from the \
         failures of all connected peers, their last turns, and whether the operator named them. \
         Compare the events `said` of the node before the request.",
    ),
    (
        "incarnations-crossed",
        "A timer or request of an earlier incarnation acted in the next one",
        "Timers end with the incarnation that set them, and requests belong to the one that made \
         them. Later timers and answers must be ignored.",
    ),
    (
        "two-incarnations",
        "Two incarnations of one actor",
        "A task of a dead incarnation still runs beside the living one. Look at the way in which \
         the dead one ended: by a panic, a hang, or a pause.",
    ),
    (
        "restarts-beyond-policy",
        "More restarts than the policy allows",
        "The supervisor should have given up. Look at its count of restarts, and at the interval \
         over which it counts.",
    ),
    (
        "gave-up-early",
        "A supervisor gave up too early",
        "Its policy had restarts left.",
    ),
    (
        "silent-leader",
        "No block of an authority becomes final",
        "The faults had ended, but no block of this authority became final for several rounds: it \
         does not propose, or the others do not approve its blocks.",
    ),
    (
        "replay-differs",
        "A replay of the chain gives another state",
        "A fresh execution client that replayed the final chain does not reach the state that \
         consensus agreed on.",
    ),
    (
        "heads-differ",
        "A node and its execution client have different heads",
        "At rest both must have the same head. Look at the node's last forkchoice updates to the \
         client.",
    ),
    (
        "wrong-order",
        "A block has its transactions in another order than by tip",
        "A leader takes transactions by the tip that each leaves at the base fee of the block, and \
         those of one sender by nonce. Other leaders would do the same, so no node disagrees. \
         Look at the ranks in the execution client's pool.",
    ),
    (
        "wrong-pool",
        "An execution client's pool or its journal is wrong",
        "An orderly stop writes the pool, and the next start reads it. A row that is deleted on \
         disk and known in memory is not written again when its transaction comes back after a \
         reorganisation.",
    ),
    (
        "wrong-execution",
        "Execution differs from independent arithmetic",
        "A base fee, gas, a receipt or a bloom of a final block is not what integers give: \
         EIP-1559 from the parent, sums of the receipts, the operations of the workload's \
         contracts. All execution clients of a run are alike, so none of them contradicts.",
    ),
    (
        "filter-differs",
        "The changes of a filter are not those of the chain",
        "A wallet that adds up the answers to its polls has other blocks or logs than the chain: a \
         change is missing, reported twice, or wrong. A search over a range gives the same \
         error. Look for a reorganisation between two polls, and for the blocks that it replaced.",
    ),
    (
        "filter-lost",
        "A filter in use is lost",
        "An execution client removes a filter after five minutes without a poll, and all filters \
         in a restart. This one was polled in time, and the process of the client has not ended.",
    ),
    (
        "forgery-accepted",
        "A node accepted a forged message",
        "An adversary altered one part of a message, or sent one of another chain, and signed it \
         only with the keys that it has. No rule admits the message, and a correct node accepted \
         it. The name has the type, the field, and how much of the message follows the altered \
         field; look at the check of that field in the ValidationActor and the rules.",
    ),
    (
        "forgery-voted-for",
        "An authority voted for a forged block",
        "A Byzantine leader altered one field of its block, and everything else follows from it. \
         A correct authority approved or confirmed the block, although execution or its branch \
         shows the fault.",
    ),
    (
        "impostor-vouched",
        "A peer was taken for an authority",
        "The peer has a proof of an authority's key that was signed for another chain or another \
         peer. The node gave it a place that is reserved for authorities.",
    ),
    (
        "not-told-again",
        "A fact was not sent again after a restart",
        "An actor keeps facts about the incarnation of another one: the commands that the network \
         service got, the connected peers, the open requests. They are void after a restart, and \
         the new incarnation, or the one with the request, must get them again. All actors \
         between the two were idle several times, and the message did not come. Look at the last \
         restart in the node.",
    ),
    (
        "not-resent",
        "A node did not rebroadcast its certificates or its votes",
        "After each slot without a new final block a node sends its highest certificate, its last \
         finality certificate and its latest votes again (rule 3.7). The node ran, no fault \
         disturbed its actors, and it published nothing of the kind for several slots. Look at the \
         ticks of the ChainActor, and at the flag of the slot that had a final block.",
    ),
    (
        "forkchoice-not-repeated",
        "A fork choice was not repeated",
        "The execution client refused a fork choice, or did not follow it. The node repeats the \
         newest one after a pause of 100 ms, which doubles up to 2 s. The client got no other call \
         in that time, and no fork choice. Look for the timer of the EngineActor.",
    ),
    (
        "status-not-repeated",
        "A status request that failed was not repeated",
        "A peer was busy, or its answer was lost. The network service asks again after a second, \
         as long as the connection lasts. Look for the time at which the status of the peer is \
         due.",
    ),
    (
        "copy-ignored",
        "A copy of a message was ignored that was not taken before",
        "The filter of repeats ignores a payload for half a second after the node took it. Here \
         the node had not taken it: a first copy found no room, or the filter confuses payloads.",
    ),
    (
        "peers-differ",
        "The PeerActor has other peers than the network service",
        "An event about a connection that finds no room is lost, and the list of all connections \
         replaces it with the next message. Look for peers that came or went while the mailbox of \
         the PeerActor was full, and at its handling of the list.",
    ),
    (
        "authorities-apart",
        "Two honest authorities are not connected",
        "The faults have ended, and one of the two knows the address of the other. Strangers may \
         hold all places for strangers, but none of an authority. Look at the dials, at the \
         refusals of the gate, and for the proof of the key and its `Vouch`.",
    ),
    (
        "wrong-store",
        "A block store has a row too many or too few",
        "The store was read from a copy of the node's disk, as a process would find it at its \
         start. Each row belongs to a block of the final chain, or to one that is listed as open \
         and above it. Other rows are reachable by nothing and stay for ever. Look at the batch \
         that dropped the block, and at the list of open blocks.",
    ),
    (
        "canary",
        "The canary",
        "The planted bug that always fails was found, as it must be.",
    ),
    (
        "panicked",
        "The program panicked",
        "The program panicked, or its process ended without an outcome. Only the message is left; \
         run the seed again with --log debug.",
    ),
    (
        "escaped",
        "The run escaped from the simulation",
        "It used a real clock, randomness, file, socket or thread of the operating system. Such a \
         run is not reproducible.",
    ),
    (
        "hung",
        "The run did not end in order",
        "The run exceeded a time limit, or never ended. Look at its last events.",
    ),
];

/// The names of the invariants, without the one of the canaries.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE
        .iter()
        .map(|(name, ..)| *name)
        .filter(|name| *name != "canary")
}

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
