//! Answers on their way back: all that are ready leave in one write, and one that nobody waits for leaves with the next.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use keystead_proto::peer::{Answer, answer};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::peers::frame;

/// How long an answer that nobody waits for is held back for another that goes with it, between members.
pub(super) const UNAWAITED: Duration = Duration::from_millis(50);

/// Writes answers until there is nobody left to give one; what nobody waits for is held back for up to `patience`.
pub(super) async fn write(
    mut answers: mpsc::Receiver<Answer>,
    mut writer: impl AsyncWrite + Unpin,
    patience: Duration,
) -> io::Result<()> {
    let mut out = BytesMut::new();
    while let Some(mut answer) = answers.recv().await {
        let until = Instant::now() + patience;
        let mut all_can_wait = true;
        loop {
            all_can_wait &= can_wait(&answer);
            frame::put(&mut out, &answer);
            answer = match answers.try_recv() {
                Ok(next) => next,
                Err(_) if !all_can_wait => break,
                Err(_) => match timeout_at(until, answers.recv()).await {
                    Ok(Some(next)) => next,
                    _ => break,
                },
            };
        }
        writer.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

/// Who forwarded a batch sees in its own log that it was taken.
fn can_wait(answer: &Answer) -> bool {
    matches!(answer.what, Some(answer::What::Taken(_)))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use keystead_proto::peer::Nothing;
    use tokio::io::{AsyncReadExt as _, DuplexStream};
    use tokio::task::yield_now;

    use super::*;

    const TAKEN: answer::What = answer::What::Taken(Nothing {});
    const PING: answer::What = answer::What::Ping(Nothing {});

    /// The far end of what is written, and the way there.
    fn writing(patience: Duration) -> (DuplexStream, impl AsyncFn(answer::What)) {
        let (near, far) = tokio::io::duplex(1 << 10);
        let (answers, written) = mpsc::channel(8);
        tokio::spawn(write(written, near, patience));
        let say = async move |what| {
            let answer = Answer {
                id: 1,
                what: Some(what),
            };
            answers.send(answer).await.unwrap();
            // The writer has its turn, as it would have before something else comes.
            yield_now().await;
            yield_now().await;
        };
        (far, say)
    }

    #[tokio::test]
    async fn what_nobody_waits_for_leaves_with_the_next_answer() {
        let (mut far, say) = writing(Duration::from_secs(3600));
        let mut bytes = [0; 1 << 10];
        say(TAKEN).await;
        say(TAKEN).await;
        assert!(far.read(&mut bytes).now_or_never().is_none());
        say(PING).await;
        let three = far.read(&mut bytes).await.unwrap();
        say(PING).await;
        assert_eq!(three, 3 * far.read(&mut bytes).await.unwrap());
    }

    #[tokio::test]
    async fn it_leaves_by_itself_where_there_is_no_other() {
        let (mut far, say) = writing(Duration::from_millis(1));
        say(TAKEN).await;
        assert!(far.read(&mut [0; 1 << 10]).await.unwrap() > 0);
    }
}
