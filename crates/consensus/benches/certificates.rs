//! Cost of checking a certificate, single and in batches, beside blst's own cost of the same work.
//!
//! `cargo bench -p alys-consensus --bench certificates`. Criterion measures each on its own; the
//! table at the end measures ours and blst's in turns, in one run, and prints ratios, which do not
//! depend on the load of the machine.
//!
//! Two of blst's costs stand beside ours. *Points*: key and signature are points already, so that
//! only the pairing remains: a lower bound. *Bytes*: the signature is 96 bytes, which are
//! decompressed and checked to be in the subgroup, as every signature of a peer must be.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use alys_bench_kit::{in_turns, us};
use alys_consensus::{CertifiedBlock, Config};
use alys_types::bls::{Claim, SecretKey, verify_batch};
use alys_types::hash::tagged;
use alys_types::spec::ChainSpec;
use alys_types::wire::CertifiedHeader;
use alys_types::{
    Address, Authority, Certificate, Genesis, Hash, Header, Height, Slot, VoteKind, VoteTarget,
};
use blst::BLST_ERROR;
use blst::min_pk::{AggregatePublicKey, PublicKey, Signature};
use criterion::{BenchmarkId, Criterion};

const TAG: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
const SIZES: [usize; 3] = [4, 7, 15];
const BATCHES: [usize; 2] = [16, 64];
const TURNS: usize = 200;

/// A federation, and its certificates of different blocks.
struct Federation {
    config: Config,
    set: Arc<alys_types::AuthoritySet>,
    certified: Vec<CertifiedHeader>,
    /// The signers' keys of each certificate, in blst's form.
    keys: Vec<Vec<PublicKey>>,
    messages: Vec<Hash>,
    signatures: Vec<Signature>,
}

fn federation(n: usize, count: usize) -> Federation {
    let keys: Vec<SecretKey> = (0..n)
        .map(|i| SecretKey::derive(&[i as u8 + 1; 32]))
        .collect();
    let authorities = keys.iter().map(|key| Authority {
        public_key: key.public_key().to_bytes(),
        proof_of_possession: key.prove_possession(),
        fee_address: Address([0; 20]),
    });
    let spec = ChainSpec {
        drift_allowance_ms: 500,
        rejoin_margin: 20,
        ..ChainSpec::development(1337, Slot(1), 2_000, Hash([1; 32]), authorities.collect())
    };
    let genesis = Arc::new(Genesis::new(spec).expect("a good spec"));
    let set = Arc::new(genesis.set().clone());
    let mut made = Federation {
        set: set.clone(),
        certified: Vec::new(),
        keys: Vec::new(),
        messages: Vec::new(),
        signatures: Vec::new(),
        config: Config::new(genesis, None),
    };
    for number in 1..=count as u64 {
        let header = Header {
            genesis_hash: made.config.genesis.hash(),
            height: Height(number),
            slot: Slot(number + 1),
            parent_hash: tagged("bench", &[&number.to_le_bytes()]),
            ..made.config.genesis.header().clone()
        };
        let target = VoteTarget {
            kind: VoteKind::Approval,
            height: header.height,
            slot: header.slot,
            hash: header.hash(),
        };
        let message = target.message(&made.config.genesis.chain_id());
        let votes: Vec<_> = (0..set.quorum())
            .map(|signer| (signer as u8, keys[signer].sign(&message.0)))
            .collect();
        let certificate = Certificate::aggregate(target, &votes, &set).expect("a quorum");
        let points = keys[..set.quorum()]
            .iter()
            .map(|key| PublicKey::key_validate(&key.public_key().to_bytes().0).expect("a key"));
        made.keys.push(points.collect());
        made.messages.push(message);
        made.signatures
            .push(Signature::from_bytes(&certificate.signature.0).expect("a signature"));
        made.certified.push(CertifiedHeader {
            header,
            certificate,
        });
    }
    made
}

impl Federation {
    /// The check of a node: of a certified header that a peer sent.
    fn ours(&self, index: usize) {
        let certified = self.certified[index].clone();
        black_box(CertifiedBlock::check(certified, &self.set, &self.config).expect("good"));
    }

    fn blst_points(&self, index: usize) {
        let keys: Vec<&PublicKey> = self.keys[index].iter().collect();
        let result = self.signatures[index].fast_aggregate_verify(
            false,
            &self.messages[index].0,
            TAG,
            &keys,
        );
        assert_eq!(result, BLST_ERROR::BLST_SUCCESS);
    }

    fn blst_bytes(&self, index: usize) {
        let signature = self.certified[index].certificate.signature.0;
        let signature = Signature::sig_validate(&signature, true).expect("a signature");
        let keys: Vec<&PublicKey> = self.keys[index].iter().collect();
        let result = signature.fast_aggregate_verify(false, &self.messages[index].0, TAG, &keys);
        assert_eq!(result, BLST_ERROR::BLST_SUCCESS);
    }

    fn ours_batch(&self, scalars: &[u64]) {
        let claims: Vec<Claim<'_>> = self
            .certified
            .iter()
            .zip(&self.messages)
            .map(|(certified, message)| Claim {
                keys: certified
                    .certificate
                    .signers
                    .iter()
                    .filter_map(|i| self.set.key(i))
                    .collect(),
                message: &message.0,
                signature: &certified.certificate.signature,
            })
            .collect();
        verify_batch(&claims, scalars).expect("good");
    }

    fn blst_batch(&self, scalars: &[u64], from_bytes: bool) {
        let parsed: Vec<Signature>;
        let signatures = if from_bytes {
            parsed = self
                .certified
                .iter()
                .map(|c| {
                    Signature::sig_validate(&c.certificate.signature.0, true).expect("a signature")
                })
                .collect();
            &parsed
        } else {
            &self.signatures
        };
        let keys: Vec<PublicKey> = self
            .keys
            .iter()
            .map(|keys| {
                let keys: Vec<&PublicKey> = keys.iter().collect();
                AggregatePublicKey::aggregate(&keys, false)
                    .expect("keys")
                    .to_public_key()
            })
            .collect();
        let scalars: Vec<blst::blst_scalar> = scalars
            .iter()
            .map(|number| {
                let mut scalar = blst::blst_scalar::default();
                scalar.b[..8].copy_from_slice(&number.to_le_bytes());
                scalar
            })
            .collect();
        let messages: Vec<&[u8]> = self
            .messages
            .iter()
            .map(|message| message.0.as_slice())
            .collect();
        let result = Signature::verify_multiple_aggregate_signatures(
            &messages,
            TAG,
            &keys.iter().collect::<Vec<_>>(),
            false,
            &signatures.iter().collect::<Vec<_>>(),
            false,
            &scalars,
            64,
        );
        assert_eq!(result, BLST_ERROR::BLST_SUCCESS);
    }
}

/// Scalars that need not be random here, because no certificate is forged.
fn scalars(count: usize) -> Vec<u64> {
    (1..=count as u64)
        .map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
        .collect()
}

fn with_criterion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("certificate");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(3));
    for n in SIZES {
        let federation = federation(n, 1);
        group.bench_function(BenchmarkId::new("ours", n), |b| {
            b.iter(|| federation.ours(0))
        });
        group.bench_function(BenchmarkId::new("blst, bytes", n), |b| {
            b.iter(|| federation.blst_bytes(0))
        });
        group.bench_function(BenchmarkId::new("blst, points", n), |b| {
            b.iter(|| federation.blst_points(0))
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("batch of certificates, n = 4");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for count in BATCHES {
        let federation = federation(4, count);
        let scalars = scalars(count);
        group.bench_function(BenchmarkId::new("ours", count), |b| {
            b.iter(|| federation.ours_batch(&scalars))
        });
        group.bench_function(BenchmarkId::new("blst, bytes", count), |b| {
            b.iter(|| federation.blst_batch(&scalars, true));
        });
        group.bench_function(BenchmarkId::new("blst, points", count), |b| {
            b.iter(|| federation.blst_batch(&scalars, false));
        });
    }
    group.finish();
}

fn row(name: &str, count: usize, [ours, bytes, points]: [Duration; 3]) {
    let us = |time: Duration| us(time) / count as f64;
    println!(
        "{name:<24} {:>7.0} us {:>7.0} us {:>7.0} us {:>8.2} {:>9.2}",
        us(ours),
        us(bytes),
        us(points),
        us(ours) / us(bytes),
        us(ours) / us(points),
    );
}

fn table() {
    println!("\np50 of {TURNS} turns, for one certificate:");
    println!(
        "{:<24} {:>10} {:>10} {:>10} {:>8} {:>9}",
        "", "ours", "blst bytes", "points", "x bytes", "x points"
    );
    for n in SIZES {
        let f = federation(n, 1);
        let name = format!("single, n = {n}, q = {}", f.set.quorum());
        row(
            &name,
            1,
            in_turns(
                TURNS,
                [&|| f.ours(0), &|| f.blst_bytes(0), &|| f.blst_points(0)],
            ),
        );
    }
    for count in BATCHES {
        let f = federation(4, count);
        let s = scalars(count);
        let works: [&dyn Fn(); 3] = [&|| f.ours_batch(&s), &|| f.blst_batch(&s, true), &|| {
            f.blst_batch(&s, false)
        }];
        row(
            &format!("batch of {count}, n = 4"),
            count,
            in_turns(TURNS / 4, works),
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    with_criterion(&mut criterion);
    criterion.final_summary();
    // `cargo test --benches` runs each function once, without figures.
    if std::env::args().any(|argument| argument == "--bench") {
        table();
    }
}
