//! A mail server: aiosmtpd, which `./test` installs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value as Json, json};

/// The server ends with the test, whatever ends that: it watches its input. It tells each letter that it takes before it
/// says that it has. Nobody is called `nobody@…`, and `later@…` is told to come again the first time.
const SERVER: &str = r"
import asyncio, json, ssl, sys, threading
from aiosmtpd.smtp import SMTP, AuthResult
options = json.loads(sys.argv[1])

class Handler:
    seen = {}
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        count = self.seen[address] = self.seen.get(address, 0) + 1
        if address.startswith('nobody@'):
            return '550 5.1.1 there is nobody'
        if address.startswith('later@') and count == 1:
            return '451 4.7.1 come again'
        envelope.rcpt_tos.append(address)
        return '250 OK'
    async def handle_DATA(self, server, session, envelope):
        login = session.auth_data.login.decode() if session.authenticated else None
        tls = session.ssl is not None or options['tls'] == 'implicit'
        print(json.dumps({'from': envelope.mail_from, 'to': envelope.rcpt_tos, 'login': login, 'tls': tls,
                          'text': envelope.content.decode()}), flush=True)
        return '250 OK'

def authenticate(server, session, envelope, mechanism, data):
    good = data.login == b'hub' and data.password.decode() == options['password']
    return AuthResult(success=good, handled=False, auth_data=data)

context = None
if options['tls'] != 'none':
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options['certificate'], options['key'])

def session():
    starttls = options['tls'] == 'starttls'
    login = options['password'] is not None
    return SMTP(Handler(), hostname='mail.example.org', enable_SMTPUTF8=True,
                tls_context=context if starttls else None, require_starttls=starttls,
                authenticator=authenticate if login else None, auth_required=login,
                auth_require_tls=starttls)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, '127.0.0.1', options['port'],
                                      ssl=context if options['tls'] == 'implicit' else None)
    print('port', server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    def watch():
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)
    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()

asyncio.run(main())
";

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// Not at all.
    None,
    /// From the first byte on.
    Implicit,
    /// After `STARTTLS`, without which nothing is taken.
    StartTls,
}

/// A running mail server.
#[derive(Debug)]
pub struct MailServer {
    child: Child,
    output: BufReader<ChildStdout>,
    port: u16,
    certificate: Option<String>,
    _folder: tempfile::TempDir,
}

impl MailServer {
    /// Starts one on a free port that takes letters from everybody.
    ///
    /// # Panics
    /// When there is no python3 with aiosmtpd.
    pub fn start() -> Self {
        Self::start_with(MailTls::None, None, 0)
    }

    /// Starts one on this port, or any if that is 0, that takes letters from whoever knows the password of the user
    /// `hub`, if there is one.
    ///
    /// # Panics
    /// When there is no python3 with aiosmtpd, or somebody has the port.
    pub fn start_with(tls: MailTls, password: Option<&str>, port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate can be made");
        let (certificate, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        std::fs::write(&certificate, made.cert.pem()).expect("a file can be written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file can be written");
        let options = json!({
            "port": port,
            "password": password,
            "certificate": certificate,
            "key": key,
            "tls": match tls {
                MailTls::None => "none",
                MailTls::Implicit => "implicit",
                MailTls::StartTls => "starttls",
            },
        });
        let child = Command::new("python3")
            .args(["-W", "ignore", "-c", SERVER, &options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("this test needs python3");
        let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("its output is text");
        let port = line
            .trim()
            .strip_prefix("port ")
            .and_then(|port| port.parse().ok());
        let port = port.expect("this test needs a mail server: pip install 'aiosmtpd==1.4.6'");
        Self {
            child,
            output,
            port,
            certificate: (tls != MailTls::None).then(|| made.cert.pem()),
            _folder: folder,
        }
    }

    /// Its port, on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate by which it is known, in PEM.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// The next letter that it has taken, as `{from, to, login, tls, text}`; waits until there is one.
    ///
    /// # Panics
    /// When it has ended.
    pub fn next_letter(&mut self) -> Json {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("its output is text");
        serde_json::from_str(&line).expect("it tells each letter as JSON")
    }

    /// Ends it, and returns how many letters it has taken that nobody has looked at.
    pub fn end(mut self) -> usize {
        drop(self.child.stdin.take());
        let rest = (&mut self.output).lines().map_while(Result::ok).count();
        drop(self.child.wait());
        rest
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
