//! A name server on loopback whose records a test changes while it runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;

/// The longest question that is read, in bytes.
const QUESTION_LEN_MAX: usize = 4096;

/// How the server treats questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// It answers from its records.
    #[default]
    Answering,
    /// It says that it cannot (`SERVFAIL`).
    Failing,
}

/// The server. It ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<String, Vec<(u32, RData)>>,
    mood: Mood,
    asked: u64,
    stopped: bool,
}

impl NameServer {
    /// Listens on any free UDP port.
    ///
    /// # Panics
    /// If there is none.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port on loopback");
        let addr = socket.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || serve(&socket, &shared));
        Self {
            addr,
            state,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Gives a name these addresses, each for `ttl` seconds, and nothing else; none makes it unknown.
    pub fn addresses(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        let record = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => RData::A(A(*ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
        };
        self.put(name, ttl, addresses.iter().map(record).collect());
    }

    /// Gives a name these services (priority, weight, port, target), each for `ttl` seconds, and nothing else.
    ///
    /// # Panics
    /// If a target is no name.
    pub fn services(&self, name: &str, ttl: u32, services: &[(u16, u16, u16, &str)]) {
        let record = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let target = Name::from_ascii(target).expect("a target is a name");
            RData::SRV(SRV::new(priority, weight, port, target))
        };
        self.put(name, ttl, services.iter().map(record).collect());
    }

    /// Treats questions like this from here on.
    pub fn set_mood(&self, mood: Mood) {
        self.state.lock().mood = mood;
    }

    /// How many questions there have been.
    pub fn asked(&self) -> u64 {
        self.state.lock().asked
    }

    fn put(&self, name: &str, ttl: u32, records: Vec<RData>) {
        let mut state = self.state.lock();
        if records.is_empty() {
            state.records.remove(&key(name));
        } else {
            let records = records.into_iter().map(|record| (ttl, record)).collect();
            state.records.insert(key(name), records);
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.state.lock().stopped = true;
        // Any datagram makes the thread look; without one it would wait for the next question.
        let waker = UdpSocket::bind("127.0.0.1:0").expect("a free port on loopback");
        waker
            .send_to(&[], self.addr)
            .expect("loopback takes a datagram");
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn serve(socket: &UdpSocket, state: &Mutex<State>) {
    let mut buffer = [0; QUESTION_LEN_MAX];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let mut state = state.lock();
        if state.stopped {
            return;
        }
        let Some(Ok(question)) = buffer.get(..len).map(Message::from_vec) else {
            continue;
        };
        state.asked += 1;
        let answer = answer(&state, &question);
        drop(state);
        let bytes = answer.to_vec().expect("an answer can be encoded");
        // Who asked may have gone.
        drop(socket.send_to(&bytes, from));
    }
}

fn answer(state: &State, question: &Message) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.authoritative = true;
    answer.add_queries(question.queries.iter().cloned());
    if state.mood == Mood::Failing {
        answer.metadata.response_code = ResponseCode::ServFail;
        return answer;
    }
    let Some(query) = question.queries.first() else {
        answer.metadata.response_code = ResponseCode::FormErr;
        return answer;
    };
    let Some(records) = state.records.get(&key(&query.name().to_ascii())) else {
        answer.metadata.response_code = ResponseCode::NXDomain;
        return answer;
    };
    let wanted = |record: &RData| {
        query.query_type() == RecordType::ANY || record.record_type() == query.query_type()
    };
    answer.add_answers(
        records
            .iter()
            .filter(|(_, record)| wanted(record))
            .map(|(ttl, record)| Record::from_rdata(query.name().clone(), *ttl, record.clone())),
    );
    answer
}
