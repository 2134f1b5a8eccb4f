//! An address that stays while servers behind it come and go.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A port that the test holds, so that nobody else is given it while a server is started again. Connections are passed
/// on to the server that there is, and end where there is none.
pub(super) struct Relay {
    address: String,
    server: Arc<Mutex<Option<SocketAddr>>>,
}

impl Relay {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Mutex::new(None));
        let known = Arc::clone(&server);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = *known.lock().unwrap_or_else(PoisonError::into_inner);
                // One that is gone by now refuses, and the client comes again.
                if let Some(Ok(server)) = server.map(TcpStream::connect) {
                    join(&client, &server).unwrap();
                }
            }
        });
        Self { address, server }
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// From here on connections are passed on to this one.
    pub(super) fn lead_to(&self, address: &str) {
        let server = address.strip_prefix("http://").unwrap().parse().unwrap();
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }
}

fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || pass(from, to));
    }
    Ok(())
}

/// Passes bytes on until one side ends; the other one ends with it.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}
