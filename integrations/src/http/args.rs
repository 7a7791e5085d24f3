//! Positional parameters, decoded in order with Geth's error texts.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::RpcError;

/// The parameters of one request, consumed from the front.
#[derive(Debug)]
pub struct Args {
    values: std::vec::IntoIter<Value>,
    given: usize,
    next: usize,
}

impl Args {
    /// # Errors
    /// Invalid params, unless `params` is an array of at most `max` values.
    pub fn new(params: Value, max: usize) -> Result<Self, RpcError> {
        let Value::Array(values) = params else {
            return Err(RpcError::invalid_params("non-array args"));
        };
        if values.len() > max {
            return Err(RpcError::invalid_params(format!(
                "too many arguments, want at most {max}"
            )));
        }
        Ok(Self {
            given: values.len(),
            values: values.into_iter(),
            next: 0,
        })
    }

    /// The number of values, including those already decoded.
    pub fn given(&self) -> usize {
        self.given
    }

    /// Decodes the next value.
    ///
    /// # Errors
    /// Invalid params when it is missing, null or not a `T`.
    pub fn required<T: DeserializeOwned>(&mut self) -> Result<T, RpcError> {
        let index = self.next;
        self.optional()?.ok_or_else(|| {
            RpcError::invalid_params(format!("missing value for required argument {index}"))
        })
    }

    /// Decodes the next value; `None` when it is missing or null.
    ///
    /// # Errors
    /// Invalid params when it is present and not a `T`.
    pub fn optional<T: DeserializeOwned>(&mut self) -> Result<Option<T>, RpcError> {
        let index = self.next;
        self.next += 1;
        match self.values.next() {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|error| {
                RpcError::invalid_params(format!("invalid argument {index}: {error}"))
            }),
        }
    }
}
