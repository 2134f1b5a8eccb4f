//! One who looks at a terminal, over a socket.

use std::sync::Arc;

use dialtone_client::{Client, Socket, SocketError, SubscribeError};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::options::{Options, Size};
use super::session::{PIECE_LEN, Session};
use super::terminals::Terminals;
use crate::error::{Code, Error};
use crate::frames::{Frame, FrameError, Frames};
use crate::subjects;

/// How long a viewer may take until it says what it wants.
const OPEN_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// What a viewer says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Open(Options),
    Resize(Size),
}

/// Accepts viewers until it is stopped.
pub(crate) async fn serve(
    client: &Client,
    pattern: String,
    terminals: Arc<Terminals>,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static + use<>, SubscribeError> {
    let mut listener = client.listen_socket(pattern).await?;
    Ok(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => None,
            };
            let Some(socket) = accepted else { break };
            let (terminals, stop) = (Arc::clone(&terminals), stop.clone());
            drop(tasks.spawn(async move {
                tokio::select! {
                    () = attend(&terminals, socket) => {}
                    () = stop.cancelled() => {}
                }
            }));
        }
    })
}

/// Leaves the terminal when it is dropped.
struct Seat<'a> {
    session: &'a Session,
    viewer: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.session.leave(self.viewer);
    }
}

async fn attend(terminals: &Terminals, socket: Socket) {
    let subject = socket.subject().to_owned();
    let frames = Frames::new(socket);
    let looked = match begin(terminals, &frames, &subject).await {
        Ok((session, viewer)) => {
            let seat = Seat {
                session: &session,
                viewer,
            };
            look(&frames, &seat).await
        }
        Err(error) => refuse(&frames, &error).await,
    };
    match looked {
        // Closing a window is how most viewers leave.
        Ok(()) | Err(FrameError::Socket(SocketError::Reset(_) | SocketError::Gone)) => {}
        Err(error) => tracing::debug!(%error, "a viewer of a terminal was lost"),
    }
}

async fn refuse(frames: &Frames, error: &Error) -> Result<(), FrameError> {
    frames.say(&error.to_json()).await?;
    frames.part().await
}

async fn begin(
    terminals: &Terminals,
    frames: &Frames,
    subject: &str,
) -> Result<(Arc<Session>, u64), Error> {
    let path = subjects::path_of(subject)
        .ok_or_else(|| Error::argument("subject", "its last segment is no path in base64"))?;
    let first = tokio::time::timeout(OPEN_MAX, frames.hear::<Word>()).await;
    let first = first.map_err(|_elapsed| Error::new(Code::Timeout, "nothing was asked for"))?;
    let options = match first {
        Ok(Word::Open(options)) => options,
        Ok(Word::Resize(_)) => {
            return Err(Error::new(Code::BadRequest, "the first word is `open`"));
        }
        Err(error) => return Err(Error::new(Code::BadRequest, error.to_string())),
    };
    let session = terminals.open(&path, &options)?;
    let viewer = session.join(options.size())?;
    Ok((session, viewer))
}

/// Both directions, until the program or the viewer has ended.
async fn look(frames: &Frames, seat: &Seat<'_>) -> Result<(), FrameError> {
    tokio::select! {
        shown = show(frames, seat) => {
            shown?;
            frames.part().await
        }
        typed = take(frames, seat) => typed,
    }
}

async fn show(frames: &Frames, seat: &Seat<'_>) -> Result<(), FrameError> {
    let session = seat.session;
    let mut changed = session.watch();
    let mut size = session.size();
    frames.say(&json!({"info": session.info()})).await?;
    loop {
        // Before looking, so that nothing that comes meanwhile is missed.
        changed.borrow_and_update();
        let exit = session.exit();
        if size != session.size() {
            size = session.size();
            frames.say(&json!({"info": session.info()})).await?;
        }
        while let Some(next) = session.next(seat.viewer, PIECE_LEN) {
            if next.skipped > 0 {
                frames.say(&json!({"skipped": next.skipped})).await?;
            }
            frames.data(next.bytes).await?;
        }
        if let Some(exit) = exit {
            return frames.say(&json!({"exit": exit})).await;
        }
        // The session holds the sender, so that this cannot fail.
        if changed.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Takes what is typed until the viewer finishes.
async fn take(frames: &Frames, seat: &Seat<'_>) -> Result<(), FrameError> {
    while let Some(frame) = frames.next().await? {
        match frame {
            Frame::Data(typed) => {
                if seat.session.write(&typed).await.is_err() {
                    // It has ended; the other direction says so.
                    return std::future::pending().await;
                }
            }
            Frame::Say(word) => match serde_json::from_value(word) {
                Ok(Word::Resize(size)) => drop(seat.session.resize(seat.viewer, size)),
                Ok(Word::Open(_)) => {
                    return Err(FrameError::Violation("the terminal is open already".into()));
                }
                Err(error) => return Err(FrameError::Violation(error.to_string())),
            },
        }
    }
    Ok(())
}
