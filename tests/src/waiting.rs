//! Waiting for what must come, on a machine that may be busy with other things.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Nothing that comes takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer.
///
/// # Panics
/// There is none within a minute and a half.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "waited for {what} in vain");
        sleep(STEP).await;
    }
}
