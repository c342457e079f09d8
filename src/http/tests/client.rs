//! A server on port 0 in a thread, and a small HTTP and WebSocket client to drive it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use actix_web::dev::ServerHandle;
use serde_json::Value;
use streamward_pipeline::live::LiveHub;

use super::{
    super::{HttpSettings, HttpState, server},
    fake::{Fake, LocalHost},
};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; it stops when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub fake: Arc<Fake>,
    pub live: LiveHub,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Running {
    pub fn start() -> Self {
        Self::with(HttpSettings::default())
    }

    pub fn with(settings: HttpSettings) -> Self {
        let fake = Fake { session_limit: 1_000, is_ready: true, ..Fake::default() };
        Self::with_fake(settings, fake)
    }

    #[expect(clippy::disallowed_methods, reason = "the server of a test runs beside it")]
    pub fn with_fake(settings: HttpSettings, fake: Fake) -> Self {
        let fake = Arc::new(fake);
        let live = LiveHub::default();
        let _ = live.channel("sensors");
        let state = HttpState {
            reads: fake.clone(),
            ingest: fake.clone(),
            operations: fake.clone(),
            sessions: Arc::new(LocalHost(fake.clone())),
            topics: fake.clone(),
            decoder: fake.clone(),
            encoder: fake.clone(),
            live: live.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = server(state, listener, settings).expect("the listener is good");
                sender.send(server.handle()).expect("the test waits");
                server.await.expect("it serves");
            });
        });
        let handle = receiver.recv().expect("it starts");
        Self { address, fake, live, handle, thread: Some(thread) }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.call("POST", path, &[("Content-Type", "application/json")], body)
    }

    /// One request on a connection of its own. A `Host` among `headers` replaces the right one.
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.call_with(method, path, headers, body.as_bytes())
    }

    pub fn call_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(&[head.as_bytes(), b"\r\n", body].concat()).expect("the server reads");
        let mut bytes = Vec::new();
        // A server that refuses a body may close before all of it is read.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a duration above zero");
        stream
    }

    /// Asks for a WebSocket and answers the connection with the response's head.
    pub fn socket(&self, path: &str, headers: &[(&str, &str)]) -> (TcpStream, String) {
        self.socket_of(&self.address.to_string(), path, headers)
    }

    /// Asks a host of this name for a WebSocket.
    pub fn socket_of(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> (TcpStream, String) {
        let mut stream = self.connect();
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).expect("the server reads");
        let mut reply = Vec::new();
        let mut byte = [0];
        while !reply.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a response head");
            reply.push(byte[0]);
        }
        (stream, String::from_utf8(reply).expect("text"))
    }

    pub fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.live.close();
        let stopping = self.handle.stop(false);
        actix_web::rt::System::new().block_on(stopping);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server did not panic");
        }
    }
}

/// One frame from the server: its opcode and payload.
pub fn read_frame(stream: &mut impl Read) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut length = usize::from(head[1] & 0x7f);
    if length == 126 {
        let mut bytes = [0; 2];
        stream.read_exact(&mut bytes)?;
        length = usize::from(u16::from_be_bytes(bytes));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok((head[0] & 0x0f, payload))
}

/// The next text message, answering pings on the way.
pub fn read_text(stream: &mut TcpStream) -> String {
    loop {
        match read_frame(stream).expect("a frame") {
            (1, payload) => return String::from_utf8(payload).expect("text"),
            (9, payload) => write_frame(stream, 10, &payload),
            (other, _) => panic!("opcode {other}"),
        }
    }
}

/// One frame from the client (masked with zeros), below 126 bytes.
pub fn write_frame(stream: &mut TcpStream, opcode: u8, payload: &[u8]) {
    let length = u8::try_from(payload.len()).expect("a short frame");
    let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    stream.write_all(&frame).expect("the server reads");
}
