//! `purchases`: what the caller has to spend.

use serde_json::{Number, Value as Json};

use super::accounts::caller;
use super::error::Error;
use super::handlers::{Call, Handlers};
use crate::store::{Store, purchases};

/// What stands in an account is written anew when it is off by more than this, in millionths of a dollar: what runs
/// changes the balance all the time.
const OFF_MAX: i64 = 10_000;

/// The handlers with those of this file.
pub fn install(store: &Store, handlers: Handlers) -> Handlers {
    handlers
        .with_on("purchases.getBalance", store, balance)
        .with_on("purchases.getMinBalance", store, min_balance)
}

async fn balance(store: Store, call: Call) -> Result<Json, Error> {
    let account = caller(&call)?;
    let (balance, standing) = {
        let mut on = store.read().await?;
        let balance = purchases::balance(&mut on, account).await?;
        (balance, purchases::standing(&mut on, account).await?)
    };
    let off = standing
        .balance
        .is_none_or(|written| written.abs_diff(balance) > OFF_MAX.unsigned_abs());
    if off {
        let mut on = store.write().await?;
        purchases::put_balance(&mut on, account, balance).await?;
        on.commit().await?;
    }
    Ok(dollars(balance))
}

async fn min_balance(store: Store, call: Call) -> Result<Json, Error> {
    let account = caller(&call)?;
    let mut on = store.read().await?;
    let standing = purchases::standing(&mut on, account).await?;
    Ok(dollars(standing.min_balance))
}

/// Millionths of a dollar in dollars, exact as long as a number of JavaScript is.
fn dollars(millionths: i64) -> Json {
    #[expect(
        clippy::cast_precision_loss,
        reason = "nine thousand million dollars are exact to the last millionth"
    )]
    let dollars = millionths as f64 / 1e6;
    Number::from_f64(dollars).map_or(Json::Null, Json::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_is_told_in_dollars() {
        for (millionths, told) in [(0, json!(0.0)), (2_500_000, json!(2.5)), (-1, json!(-1e-6))] {
            assert_eq!(dollars(millionths), told);
        }
    }
}
