//! The work of a validator in every slot, from the bytes of a proposal to the signed approval,
//! without the network.
//!
//! `cargo bench -p alys-node --bench pipeline`. One authority of four (the code of its actors,
//! called in their order) takes proposals that another one led, on real files. Criterion measures
//! the whole; the tables at the end show the parts. Every transfer goes from an account of its own
//! to an account of its own, the worst case for the state.
//!
//! Three clients execute each block. The first does not know the transactions and recovers every
//! sender; it is called in process, and only its time counts in the total. The second knows them
//! from its pool, as after gossip that precedes the block. The third does not know them and is
//! called as in production, over HTTP on loopback.

#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Signature, U256};
use alloy_rpc_types_engine::{
    CancunPayloadFields, ExecutionPayload, ExecutionPayloadSidecar, ForkchoiceState,
    PayloadAttributes,
};
use alys_consensus::{
    Broadcast, CertifiedBlock, Config, Effect, Input, Now, State, Stored, Verdict,
    VerifiedProposal, VoteState,
};
use alys_integrations::embedded::execution::{CoreConfig, ExecutionCore};
use alys_integrations::embedded::{ExecutionServer, ExecutionServerConfig};
use alys_integrations::execution::{ExecutionClient, HttpEngine, from_wire, to_wire};
use alys_integrations::http::JwtSecret;
use alys_node::actors::storage::batch_of;
use alys_runtime::disk::Dir;
use alys_storage::{BlockStore, Durability, Engine, Store};
use alys_types::bls::SecretKey;
use alys_types::spec::{ChainSpec, HEADER_VERSION, empty_ledger_hash, prev_randao, vault_address};
use alys_types::wire::{CertifiedHeader, Message, Proposal};
use alys_types::{
    Authority, Block, Body, Certificate, Genesis, Hash, Header, Slot, Vote, VoteKind, VoteTarget,
};
use criterion::{BenchmarkId, Criterion};
use k256::ecdsa::SigningKey;
use tempfile::TempDir;

const TRANSFERS: [usize; 3] = [0, 200, 1000];
const ROUNDS: usize = 30;
const WARM_UP: usize = 3;
const CHAIN_ID: u64 = 1337;
const SLOT_MS: u64 = 2_000;
const AUTHORITIES: usize = 4;
/// Indices of the measured authority and of the leader.
const MEASURED: usize = 0;
const LEADER: u8 = 1;

/// Times of the parts of one round.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    decode: Duration,
    check: Duration,
    state: Duration,
    execute: Duration,
    persist: Duration,
    sign: Duration,
    /// Not in the total: the same payload in a client whose pool knows the transactions.
    execute_known: Duration,
}

impl Parts {
    fn total(&self) -> Duration {
        self.decode + self.check + self.state + self.execute + self.persist + self.sign
    }
}

fn timed<T>(into: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *into += start.elapsed();
    result
}

fn authority_key(index: usize) -> SecretKey {
    SecretKey::derive(&[index as u8 + 1; 32])
}

fn user_key(index: usize) -> SigningKey {
    let mut bytes = [0x11; 32];
    bytes[24..].copy_from_slice(&(index as u64 + 1).to_be_bytes());
    SigningKey::from_slice(&bytes).expect("below the order of the curve")
}

fn execution_genesis(users: &[SigningKey]) -> alloy_genesis::Genesis {
    let funds = |key: &SigningKey| {
        (
            Address::from_private_key(key).to_string(),
            serde_json::json!({ "balance": "0xd3c21bcecceda1000000" }),
        )
    };
    let alloc: serde_json::Map<_, _> = users.iter().map(funds).collect();
    serde_json::from_value(serde_json::json!({
        "config": {
            "chainId": CHAIN_ID, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0,
            "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0, "mergeNetsplitBlock": 0,
            "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true, "shanghaiTime": 0,
            "cancunTime": 0
        },
        "nonce": "0x0", "timestamp": "0x0", "gasLimit": "0x1c9c380", "difficulty": "0x0",
        "alloc": alloc
    }))
    .expect("a genesis")
}

fn genesis(execution: &ExecutionCore) -> Arc<Genesis> {
    let authorities = (0..AUTHORITIES).map(|index| Authority {
        public_key: authority_key(index).public_key().to_bytes(),
        proof_of_possession: authority_key(index).prove_possession(),
        fee_address: alys_types::Address([index as u8; 20]),
    });
    let spec = ChainSpec {
        drift_allowance_ms: 300,
        rejoin_margin: 20,
        ..ChainSpec::development(
            CHAIN_ID,
            Slot(1_000_000),
            SLOT_MS,
            execution.genesis_hash().into(),
            authorities.collect(),
        )
    };
    Arc::new(Genesis::new(spec).expect("a spec"))
}

fn temporary() -> TempDir {
    // On the disk of the checkout, because a temporary directory is often in memory.
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn redb(temporary: &TempDir, name: &str) -> Store {
    let dir = Dir::open(temporary.path())
        .expect("a directory")
        .sub(name)
        .expect("a directory");
    alys_storage::open(Engine::Redb, &dir).expect("opens")
}

/// Everything around the measured authority: users, the leader, its execution client, the clock.
struct World {
    _files: TempDir,
    users: Vec<SigningKey>,
    genesis: Arc<Genesis>,
    leader: ExecutionCore,
    measured: Validator,
    parent: CertifiedParent,
    nonce: u64,
}

/// The parent of the next block.
struct CertifiedParent {
    header: Header,
    hash: Hash,
    certificate: Option<Certificate>,
}

/// The measured authority.
struct Validator {
    genesis: Arc<Genesis>,
    key: SecretKey,
    state: State,
    blocks: BlockStore,
    execution: ExecutionCore,
    knows_senders: ExecutionCore,
    now: Now,
}

impl World {
    fn new(transfers: usize) -> World {
        let files = temporary();
        let users: Vec<SigningKey> = (0..transfers).map(user_key).collect();
        let execution_genesis = execution_genesis(&users);
        let core = |name| {
            ExecutionCore::open(
                redb(&files, name),
                &execution_genesis,
                CoreConfig::default(),
            )
            .expect("opens")
        };
        let leader = core("leader");
        let execution = core("execution");
        let knows_senders = core("known");
        let genesis = genesis(&leader);
        let blocks = BlockStore::open(redb(&files, "blocks"), genesis.hash()).expect("opens");
        let first = genesis.header().slot;
        let now = Now {
            wall_ms: first.start_ms(SLOT_MS),
            mono_ms: 0,
        };
        let key = authority_key(MEASURED);
        let config = Config::new(genesis.clone(), Some(key.public_key().to_bytes()));
        let fresh = VoteState::fresh(alys_consensus::BlockRef {
            slot: first,
            hash: genesis.hash(),
        });
        let stored = Stored {
            votes: Some(fresh),
            ..Stored::default()
        };
        let (state, effects) =
            State::restore(config, stored, now, None).expect("nothing stored is in order");
        let mut measured = Validator {
            genesis: genesis.clone(),
            key,
            state,
            blocks,
            execution,
            knows_senders,
            now,
        };
        measured.carry_out(effects, &mut Parts::default());
        measured.input(Input::Tick, &mut Parts::default());
        let parent = CertifiedParent {
            header: genesis.header().clone(),
            hash: genesis.hash(),
            certificate: None,
        };
        World {
            _files: files,
            users,
            genesis,
            leader,
            measured,
            parent,
            nonce: 0,
        }
    }

    /// One transfer of each user, encoded.
    fn transfers(&self) -> Vec<Vec<u8>> {
        let sign = |(index, key): (usize, &SigningKey)| {
            let mut to = [0xee; 20];
            to[12..].copy_from_slice(&(index as u64).to_be_bytes());
            let transfer = TxEip1559 {
                chain_id: CHAIN_ID,
                nonce: self.nonce,
                gas_limit: 21_000,
                max_fee_per_gas: 100_000_000_000_000,
                max_priority_fee_per_gas: 1_000_000_000,
                to: Address::from(to).into(),
                value: U256::from(1u64),
                ..TxEip1559::default()
            };
            let signed = key
                .sign_prehash_recoverable(transfer.signature_hash().as_slice())
                .expect("a hash");
            TxEnvelope::from(transfer.into_signed(Signature::from(signed))).encoded_2718()
        };
        self.users.iter().enumerate().map(sign).collect()
    }

    /// The encoded next proposal of the leader, and its payload.
    fn propose(&mut self) -> (Vec<u8>, Block) {
        let transfers = self.transfers();
        self.nonce += 1;
        for transfer in &transfers {
            self.leader.add_transaction(transfer).expect("is taken");
            self.measured
                .knows_senders
                .add_transaction(transfer)
                .expect("is taken");
        }
        // The next slot of the leader.
        let mut slot = self.parent.header.slot.next();
        while self.genesis.set().leader(slot) != LEADER {
            slot = slot.next();
        }
        let attributes = PayloadAttributes {
            timestamp: slot.timestamp(SLOT_MS),
            prev_randao: prev_randao(&self.parent.hash, slot).into(),
            suggested_fee_recipient: vault_address().into(),
            withdrawals: Some(Vec::new()),
            parent_beacon_block_root: Some(self.parent.hash.into()),
            ..PayloadAttributes::default()
        };
        let updated = self
            .leader
            .forkchoice_updated(head(self.parent.header.execution_hash), Some(attributes));
        let id = updated.expect("updates").payload_id.expect("a build");
        let payload =
            from_wire(self.leader.get_payload(id).expect("builds").payload).expect("Deneb's");
        assert_eq!(payload.transactions.len(), transfers.len());
        let body = Body::of(payload);
        let header = Header {
            version: HEADER_VERSION,
            evm_chain_id: CHAIN_ID,
            genesis_hash: self.genesis.hash(),
            height: self.parent.header.height.next(),
            slot,
            proposer: LEADER,
            parent_hash: self.parent.hash,
            parent_certificate: self.parent.certificate,
            execution_hash: body.payload.block_hash,
            body_hash: body.hash(),
            set_hash: self.genesis.set().hash(),
            ledger_hash: empty_ledger_hash(),
        };
        let target = VoteTarget {
            kind: VoteKind::Proposal,
            height: header.height,
            slot,
            hash: header.hash(),
        };
        let signature =
            authority_key(usize::from(LEADER)).sign(&target.message(&self.genesis.chain_id()).0);
        let block = Block { header, body };
        let proposal = Proposal {
            block: block.clone(),
            vote: Vote {
                target,
                signer: LEADER,
                signature,
            },
        };
        (proposal.encode(), block)
    }

    /// One block, measured from its bytes to the approval, then finalized by the others.
    fn round(&mut self) -> (Parts, Block) {
        let (bytes, block) = self.propose();
        let slot_ms = block.header.slot.start_ms(SLOT_MS);
        let (mut parts, approval) = self.measured.approve(&bytes, slot_ms);
        assert_eq!(approval.target.hash, block.header.hash());
        let known = timed(&mut parts.execute_known, || {
            new_payload(&mut self.measured.knows_senders, &block)
        });
        assert!(known);
        self.settle(&block);
        (parts, block)
    }

    /// Sends the certificates of all to the measured authority; the leader's client follows.
    fn settle(&mut self, block: &Block) {
        let header = &block.header;
        let hash = header.hash();
        let certificate = |kind| {
            let target = VoteTarget {
                kind,
                height: header.height,
                slot: header.slot,
                hash,
            };
            let message = target.message(&self.genesis.chain_id());
            let votes: Vec<_> = (1..AUTHORITIES)
                .map(|index| (index as u8, authority_key(index).sign(&message.0)))
                .collect();
            Certificate::aggregate(target, &votes, self.genesis.set()).expect("a quorum")
        };
        let approvals = certificate(VoteKind::Approval);
        for certificate in [approvals, certificate(VoteKind::Confirmation)] {
            let certified = CertifiedHeader {
                header: header.clone(),
                certificate,
            };
            let set = self.measured.state.set_for(header);
            let config = Config::new(self.genesis.clone(), None);
            let checked = CertifiedBlock::check(certified, &set, &config).expect("good");
            self.measured
                .input(Input::Certified(checked), &mut Parts::default());
        }
        assert_eq!(self.measured.state.summary().final_height, header.height);
        let status = new_payload(&mut self.leader, block);
        assert!(status, "the leader's own block");
        self.parent = CertifiedParent {
            header: header.clone(),
            hash,
            certificate: Some(approvals),
        };
    }
}

impl Validator {
    /// Takes the bytes of a proposal and returns the vote.
    fn approve(&mut self, bytes: &[u8], now_ms: u64) -> (Parts, Vote) {
        self.now = Now {
            mono_ms: self.now.mono_ms + now_ms - self.now.wall_ms,
            wall_ms: now_ms,
        };
        let mut parts = Parts::default();
        let proposal = timed(&mut parts.decode, || {
            Proposal::decode(bytes).expect("well-formed")
        });
        let parent = proposal.block.header.parent_hash;
        let context = self
            .state
            .proposal_context(&parent)
            .expect("the parent is known");
        let config = Config::new(self.genesis.clone(), None);
        let verified = timed(&mut parts.check, || {
            VerifiedProposal::check(proposal, &context, &config).expect("good")
        });
        let approval = self
            .input(Input::Proposal(verified), &mut parts)
            .expect("an approval");
        (parts, approval)
    }

    /// Handles an input and its effects as the ChainActor does. Returns the approval that is sent.
    fn input(&mut self, input: Input, parts: &mut Parts) -> Option<Vote> {
        let now = self.now;
        let effects = timed(&mut parts.state, || self.state.handle(input, now));
        self.carry_out(effects, parts)
    }

    fn carry_out(&mut self, effects: Vec<Effect>, parts: &mut Parts) -> Option<Vote> {
        let mut sent = None;
        for effect in effects {
            match effect {
                Effect::Persist(record) => timed(&mut parts.persist, || {
                    self.blocks
                        .write(batch_of(&record), Durability::Durable)
                        .expect("writes");
                }),
                Effect::Execute { hash, block } => {
                    let valid = match block {
                        Some(block) => timed(&mut parts.execute, || {
                            new_payload(&mut self.execution, &block)
                        }),
                        // Genesis, which both have.
                        None => hash == self.genesis.hash(),
                    };
                    assert!(valid);
                    let answer = self.input(
                        Input::Executed {
                            hash,
                            verdict: Verdict::Valid,
                        },
                        parts,
                    );
                    sent = sent.or(answer);
                }
                Effect::Broadcast(Broadcast::Approval { target, signer }) => {
                    let vote = timed(&mut parts.sign, || {
                        let signature = self.key.sign(&target.message(&self.genesis.chain_id()).0);
                        let vote = Vote {
                            target,
                            signer,
                            signature,
                        };
                        std::hint::black_box(vote.encode());
                        vote
                    });
                    sent = Some(vote);
                }
                Effect::Forkchoice {
                    head: (_, execution),
                    ..
                } => {
                    for core in [&mut self.execution, &mut self.knows_senders] {
                        let updated = core
                            .forkchoice_updated(head(execution), None)
                            .expect("updates");
                        assert!(updated.is_valid(), "{updated:?}");
                    }
                }
                Effect::Notice(notice) => panic!("{notice:?}"),
                // The work of a leader, and later broadcasts.
                _ => {}
            }
        }
        sent
    }
}

fn head(hash: Hash) -> ForkchoiceState {
    ForkchoiceState {
        head_block_hash: hash.into(),
        safe_block_hash: B256::ZERO,
        finalized_block_hash: B256::ZERO,
    }
}

/// True when the client considers the payload valid. The node's conversion is included.
fn new_payload(core: &mut ExecutionCore, block: &Block) -> bool {
    let payload: ExecutionPayload = to_wire(&block.body.payload);
    let fields = CancunPayloadFields::new(block.header.parent_hash.into(), Vec::new());
    let status = core
        .new_payload(payload, ExecutionPayloadSidecar::v3(fields))
        .expect("the store works");
    status.is_valid()
}

fn with_criterion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("proposal to approval");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4));
    for transfers in TRANSFERS {
        let mut world = World::new(transfers);
        group.bench_function(BenchmarkId::new("transfers", transfers), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| world.round().0.total()).sum());
        });
    }
    group.finish();
}

/// The same chain in a client behind HTTP: the time of its `newPayload`, seen from the node.
struct Remote {
    _files: TempDir,
    _server: ExecutionServer,
    client: HttpEngine,
}

impl Remote {
    async fn start(world: &World) -> Remote {
        let files = temporary();
        let secret = JwtSecret::new([7; 32]);
        let server = ExecutionServer::start(ExecutionServerConfig {
            http_addr: None,
            engine_addr: "127.0.0.1:0".parse().expect("an address"),
            jwt_secret: secret.clone(),
            genesis: execution_genesis(&world.users),
            access: Default::default(),
            store: redb(&files, "remote"),
            core: CoreConfig::default(),
            limits: Default::default(),
        })
        .await
        .expect("starts");
        let client = HttpEngine::new(server.engine_addr(), secret);
        Remote {
            _files: files,
            _server: server,
            client,
        }
    }

    async fn execute(&self, block: &Block) -> Duration {
        let start = Instant::now();
        let payload = to_wire(&block.body.payload);
        let status = self
            .client
            .new_payload(payload, block.header.parent_hash.into())
            .await
            .expect("answers");
        let took = start.elapsed();
        assert!(status.is_valid(), "{status:?}");
        let updated = self
            .client
            .forkchoice_updated(head(block.header.execution_hash), None)
            .await;
        assert!(updated.expect("answers").payload_status.is_valid());
        took
    }
}

async fn table(transfers: usize) {
    let mut world = World::new(transfers);
    let remote = Remote::start(&world).await;
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut bytes = 0;
    for number in 0..WARM_UP + ROUNDS {
        let (parts, block) = world.round();
        let remote = remote.execute(&block).await;
        bytes = block.body.payload.transactions.iter().map(Vec::len).sum();
        if number >= WARM_UP {
            rounds.push((parts, remote));
        }
    }
    let median = |of: &dyn Fn(&(Parts, Duration)) -> Duration| {
        let all: Vec<Duration> = rounds.iter().map(of).collect();
        alys_bench_kit::median(&all).as_secs_f64() * 1e3
    };
    let total = median(&|(parts, _)| parts.total());
    println!("\n{transfers} transfers a block ({bytes} bytes), p50 of {ROUNDS} blocks:");
    let row =
        |name: &str, ms: f64| println!("  {name:<44} {ms:>9.3} ms {:>6.1} %", ms * 100.0 / total);
    row("decode the proposal", median(&|(parts, _)| parts.decode));
    row(
        "check it (hashes, signature, certificate)",
        median(&|(parts, _)| parts.check),
    );
    row("state machine", median(&|(parts, _)| parts.state));
    row(
        "newPayload, in process, senders unknown",
        median(&|(parts, _)| parts.execute),
    );
    row(
        "persist vote and block (redb, durable)",
        median(&|(parts, _)| parts.persist),
    );
    row(
        "sign and encode the approval",
        median(&|(parts, _)| parts.sign),
    );
    row("proposal to approval", total);
    println!("  instead of newPayload above:");
    row(
        "newPayload, in process, pool knows senders",
        median(&|(parts, _)| parts.execute_known),
    );
    row(
        "newPayload over HTTP, senders unknown",
        median(&|(_, remote)| *remote),
    );
    row(
        "proposal to approval over HTTP",
        median(&|(parts, remote)| parts.total() - parts.execute + *remote),
    );
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    with_criterion(&mut criterion);
    criterion.final_summary();
    // `cargo test --benches` runs each function once, without tables.
    if std::env::args().any(|argument| argument == "--bench") {
        alys_runtime::block_on_main(async {
            for transfers in TRANSFERS {
                table(transfers).await;
            }
        });
    }
}
