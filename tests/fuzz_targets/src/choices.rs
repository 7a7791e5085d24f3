//! Choices and values from the bytes of a fuzzer. Bytes that are used up give zeros and the first
//! of several, so that every input is a whole sequence.

use arbitrary::Unstructured;
use serde_json::{Map, Value};

/// The rest of an input.
#[derive(Debug)]
pub struct Choices<'a>(Unstructured<'a>);

/// Texts that the parsers of JSON-RPC parameters distinguish.
const TEXTS: &[&str] = &[
    "",
    "0x",
    "0x0",
    "0x1",
    "0x00",
    "0xffffffffffffffff",
    "0x10000000000000000",
    "latest",
    "earliest",
    "pending",
    "safe",
    "finalized",
    "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
    "0x00000000000000000000000000000000000000aa",
    "0x0000000000000000000000000000000000000000000000000000000000000000",
    "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "0x36601a57602a600055602a600052600760206000a160206000f35b60003560005260206000fd",
    "0x02f8",
];

/// Names of fields in JSON-RPC parameters.
const FIELDS: &[&str] = &[
    "from",
    "to",
    "data",
    "input",
    "value",
    "gas",
    "gasPrice",
    "maxFeePerGas",
    "nonce",
    "accessList",
    "type",
    "address",
    "topics",
    "fromBlock",
    "toBlock",
    "blockHash",
    "blockNumber",
    "requireCanonical",
    "headBlockHash",
    "safeBlockHash",
    "finalizedBlockHash",
    "timestamp",
    "prevRandao",
    "suggestedFeeRecipient",
    "withdrawals",
    "parentBeaconBlockRoot",
];

/// Nesting of a drawn JSON value; parameters of the RPC have less.
const MAX_JSON_DEPTH: usize = 4;
/// Entries of a drawn array or object, enough to exceed the number of a method's parameters.
const MAX_JSON_ENTRIES: usize = 5;

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(Unstructured::new(bytes))
    }

    /// True when all bytes are used up.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// All bytes that are not used yet.
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }

    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn number(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let filled = self.0.fill_buffer(&mut bytes);
        filled.map_or([0; N], |()| bytes)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.choose_index(end).unwrap_or(0)
    }

    /// An element of `of`; `None` when it is empty.
    pub fn pick<'b, T>(&mut self, of: &'b [T]) -> Option<&'b T> {
        of.get(self.below(of.len()))
    }

    /// At most `most` bytes of the input.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most.saturating_add(1)).min(self.0.len());
        self.0.bytes(length).unwrap_or_default().to_vec()
    }

    /// A number near `value`, or any number.
    pub fn near(&mut self, value: u64) -> u64 {
        match self.byte() {
            0xff => self.number(),
            0xfe => 0,
            0xfd => u64::MAX,
            near @ 0x80..=0xfc => value.saturating_sub(u64::from(near & 0x0f)),
            near => value.saturating_add(u64::from(near & 0x0f)),
        }
    }

    /// Changes, inserts or cuts off a few bytes.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.byte() % 4 {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                _ => {
                    let mask = self.byte() | 1;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= mask;
                    }
                }
            }
        }
    }

    /// A JSON value of the kinds that parameters and answers of the RPC have.
    pub fn json(&mut self) -> Value {
        self.json_within(MAX_JSON_DEPTH)
    }

    fn json_within(&mut self, depth: usize) -> Value {
        match self.byte() % 10 {
            0 => Value::Null,
            1 => self.flag().into(),
            2 => self.number().into(),
            3 => Value::String(format!("{:#x}", self.number())),
            4 => Value::String(alys_types::bytes::to_hex(&self.bytes(64))),
            5 => Value::String(String::from_utf8_lossy(&self.bytes(16)).into_owned()),
            6 if depth > 0 => self.json_array_within(depth - 1),
            7 | 8 if depth > 0 => {
                let mut object = Map::new();
                for _ in 0..self.below(MAX_JSON_ENTRIES + 1) {
                    let name = self.pick(FIELDS).copied().unwrap_or_default();
                    let value = self.json_within(depth - 1);
                    object.insert(name.to_owned(), value);
                }
                Value::Object(object)
            }
            _ => self.pick(TEXTS).copied().unwrap_or_default().into(),
        }
    }

    /// Parameters of a call.
    pub fn json_array(&mut self) -> Value {
        self.json_array_within(MAX_JSON_DEPTH)
    }

    fn json_array_within(&mut self, depth: usize) -> Value {
        let length = self.below(MAX_JSON_ENTRIES + 1);
        (0..length).map(|_| self.json_within(depth)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_up_bytes_give_zeros_and_end_every_sequence() {
        let mut choices = Choices::new(&[]);
        assert!(choices.is_over());
        assert_eq!(
            (choices.byte(), choices.number(), choices.below(7)),
            (0, 0, 0)
        );
        assert_eq!(choices.array::<4>(), [0; 4]);
        assert_eq!(choices.pick(&[3, 4]), Some(&3));
        assert_eq!(choices.pick::<u8>(&[]), None);
        assert!(choices.bytes(9).is_empty());
        assert_eq!(choices.near(5), 5);
        assert_eq!(choices.json(), Value::Null);
        let mut nothing = Vec::new();
        choices.damage(&mut nothing);
        assert!(nothing.is_empty());
    }
}
