//! Memory budgets: the bytes in use are those of the requests and answers in progress. A budget
//! never has more bytes left than it began with, and has all of them left once none is in progress.

use alys_integrations::http::Pending;

use super::Violation;

/// Checks the budget of a port of an execution client; `node` counts from 0.
///
/// # Errors
/// [`Violation::BudgetWrong`].
pub fn check(node: u8, port: &str, pending: &Pending) -> Result<(), Violation> {
    let Pending {
        limit,
        left,
        charges,
    } = *pending;
    let is_whole = left == limit;
    if left <= limit && (charges > 0 || is_whole) {
        return Ok(());
    }
    Err(Violation::BudgetWrong {
        node: node + 1,
        port: port.to_owned(),
        left: left as u64,
        limit: limit as u64,
        charges: charges as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_returns_what_was_taken_and_no_more() {
        let judge = |left, charges| {
            let pending = Pending {
                limit: 100,
                left,
                charges,
            };
            check(0, "json-rpc", &pending).map_err(|broken| broken.name())
        };
        assert_eq!(judge(100, 0), Ok(()));
        assert_eq!(judge(100, 1), Ok(()), "small ones cost nothing");
        assert_eq!(judge(0, 1), Ok(()));
        let wrong = Err("budget-wrong".to_owned());
        assert_eq!(judge(101, 1), wrong, "more is returned than was taken");
        assert_eq!(judge(99, 0), wrong, "less is returned than was taken");
    }
}
