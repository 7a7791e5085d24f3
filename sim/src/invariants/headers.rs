//! Answers of the nodes to requests for headers and blocks: each is a piece of one chain, with a
//! quorum of approvals for every block.

use alys_types::wire::{BlockRange, HeaderRange};
use alys_types::{Block, Certificate, Hash, VoteKind};

use super::{Finality, Violation, Votes};

/// Checks the answer of a node, from 0, to a request for `count` headers from height `start` on;
/// `None` stands for a malformed answer. Returns the height of the last header, or 0 for an empty
/// answer.
///
/// # Errors
/// [`Violation::WrongHeaders`] or [`Violation::CertifiedWithoutQuorum`].
pub fn answered(
    node: u8,
    (start, count): (u64, u64),
    range: Option<&HeaderRange>,
    votes: &Votes,
    finality: &Finality,
) -> Result<u64, Violation> {
    let wrong = |why: &str, height: u64| Violation::WrongHeaders {
        node: node + 1,
        height,
        why: why.to_owned(),
    };
    let range = range.ok_or_else(|| wrong("malformed", start))?;
    if range.headers.len() as u64 > count {
        return Err(wrong("more headers than requested", start));
    }
    let mut last: Option<Hash> = None;
    let mut next = start;
    for header in &range.headers {
        let height = header.height.0;
        let hash = header.hash();
        if height != next {
            return Err(wrong("not the requested height, or a gap", height));
        }
        if last.is_some_and(|last| last != header.parent_hash) {
            return Err(wrong("not a child of the header before", height));
        }
        votes.certified(node, header.slot.0, hash)?;
        let is_called_final = range
            .finalized
            .as_ref()
            .is_some_and(|last| last.header.height.0 >= height);
        if is_called_final
            && finality
                .blocks
                .get(&height)
                .is_some_and(|block| block.hash != hash)
        {
            return Err(wrong("conflicts with a final block", height));
        }
        last = Some(hash);
        next += 1;
    }
    match (last, &range.tip) {
        (Some(last), Some(Certificate { target, .. }))
            if target.hash == last && target.kind == VoteKind::Approval =>
        {
            Ok(next - 1)
        }
        (None, None) => Ok(0),
        _ => Err(wrong(
            "the certificate is not that of the last header",
            next - 1,
        )),
    }
}

/// Checks an answer with blocks: their headers as in [`answered`], and their bodies against the
/// headers.
///
/// # Errors
/// As [`answered`].
pub fn answered_blocks(
    node: u8,
    asked: (u64, u64),
    range: Option<&BlockRange>,
    votes: &Votes,
    finality: &Finality,
) -> Result<(), Violation> {
    let headers = range.map(|range| HeaderRange {
        headers: range
            .blocks
            .iter()
            .map(|block| block.header.clone())
            .collect(),
        tip: range.tip,
        changes: Vec::new(),
        finalized: range.finalized.clone(),
    });
    answered(node, asked, headers.as_ref(), votes, finality)?;
    let blocks = range.map_or(&[][..], |range| &range.blocks);
    match blocks
        .iter()
        .find(|block| block.body.hash() != block.header.body_hash)
    {
        Some(Block { header, .. }) => {
            let why = "the body does not match the header".to_owned();
            Err(Violation::WrongHeaders {
                node: node + 1,
                height: header.height.0,
                why,
            })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::blocks::tests::{block, plan};
    use crate::invariants::{Blocks, Final};
    use alys_types::bls::Signature;
    use alys_types::wire::CertifiedHeader;
    use alys_types::{Bitmap, Header, VoteTarget};

    fn certificate(header: &Header, kind: VoteKind) -> Certificate {
        let Header { height, slot, .. } = *header;
        let target = VoteTarget {
            kind,
            height,
            slot,
            hash: header.hash(),
        };
        Certificate {
            target,
            signers: Bitmap::empty(4),
            signature: Signature([0; 96]),
        }
    }

    /// Builds three headers from height 1 on, all approved by three of four authorities.
    fn chain() -> (Votes, Vec<Header>) {
        let mut votes = Votes::new(&plan());
        let mut headers = Vec::<Header>::new();
        let none = Blocks::new(&plan());
        for height in 1..=3 {
            let parent = headers.last().map_or(Hash::ZERO, Header::hash);
            let (_, block) = block(height, 100 + height, parent);
            for node in 0..3 {
                let target = certificate(&block.header, VoteKind::Approval).target;
                votes.signed(node, &target, &none).unwrap();
            }
            headers.push(block.header.clone());
        }
        (votes, headers)
    }

    fn range(headers: &[Header]) -> HeaderRange {
        let tip = headers
            .last()
            .map(|last| certificate(last, VoteKind::Approval));
        HeaderRange {
            headers: headers.to_vec(),
            tip,
            changes: Vec::new(),
            finalized: None,
        }
    }

    #[test]
    fn a_piece_of_one_chain_passes() {
        let (votes, headers) = chain();
        let judge = |asked, range: &HeaderRange| {
            answered(0, asked, Some(range), &votes, &Finality::default())
        };
        assert_eq!(judge((1, 8), &range(&headers)), Ok(3));
        assert_eq!(judge((2, 2), &range(&headers[1..])), Ok(3));
        assert_eq!(judge((9, 8), &range(&[])), Ok(0), "an empty answer");
    }

    #[test]
    fn any_other_answer_is_found() {
        let (votes, headers) = chain();
        let whole = range(&headers);
        let unapproved = block(4, 104, headers[2].hash()).1.header.clone();
        let confirmed = certificate(&headers[2], VoteKind::Confirmation);
        let wrong: [(&str, HeaderRange); 6] = [
            (
                "more than requested",
                range(&[&headers[..], &headers[..]].concat()),
            ),
            ("a gap", range(&[headers[0].clone(), headers[2].clone()])),
            ("not requested", range(&headers[1..])),
            (
                "no certificate",
                HeaderRange {
                    tip: None,
                    ..whole.clone()
                },
            ),
            (
                "another's certificate",
                HeaderRange {
                    tip: range(&headers[..2]).tip,
                    ..whole.clone()
                },
            ),
            (
                "another kind",
                HeaderRange {
                    tip: Some(confirmed),
                    ..whole.clone()
                },
            ),
        ];
        for (what, range) in &wrong {
            let judged = answered(0, (1, 4), Some(range), &votes, &Finality::default());
            assert!(
                matches!(judged, Err(Violation::WrongHeaders { node: 1, .. })),
                "{what}: {judged:?}"
            );
        }
        let with_one_more = range(&[&headers[..], &[unapproved]].concat());
        let judged = answered(
            0,
            (1, 4),
            Some(&with_one_more),
            &votes,
            &Finality::default(),
        );
        assert!(
            matches!(
                judged,
                Err(Violation::CertifiedWithoutQuorum { node: 1, .. })
            ),
            "{judged:?}"
        );
        assert!(answered(0, (1, 4), None, &votes, &Finality::default()).is_err());
    }

    #[test]
    fn a_header_reported_as_final_is_the_final_one() {
        let (votes, headers) = chain();
        let mut finality = Finality::default();
        let other = Final {
            hash: Hash([9; 32]),
            slot: 102,
            execution_hash: Hash::ZERO,
            state_root: Hash::ZERO,
            transactions: 0,
            proposer: 0,
            node: 1,
        };
        finality.blocks.insert(2, other);
        let branch = range(&headers);
        assert_eq!(
            answered(0, (1, 4), Some(&branch), &votes, &finality),
            Ok(3),
            "a certified branch may lose"
        );
        let header = headers[2].clone();
        let certificate = certificate(&header, VoteKind::Confirmation);
        let called = HeaderRange {
            finalized: Some(CertifiedHeader {
                header,
                certificate,
            }),
            ..branch
        };
        assert!(answered(0, (1, 4), Some(&called), &votes, &finality).is_err());
    }
}
