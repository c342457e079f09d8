//! WebSocket clients under load, among them some that never read.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use socket2::{Domain, Socket, Type};

use crate::support::{
    kafka::Producer,
    readings::{Readings, stored},
    server::Node,
    wait::{self, is},
};

const STUCK: usize = 20;
const READERS: usize = 3;
const RECORDS: u64 = 20_000;
const SENT_AT_ONCE: u64 = 500;

/// A client that opens a WebSocket and never reads again.
fn stuck(address: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let request = format!(
        "GET /ws/sensors HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    stream
}

#[actix_rt::test]
async fn clients_that_never_read_slow_neither_readers_nor_storage() {
    let server = Node::new().start().await;
    let address = server.http.address().to_owned();
    let open: Vec<TcpStream> = (0..STUCK).map(|_| stuck(&address)).collect();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(server.http.socket("/ws/sensors").await);
    }
    let subscribers = "streamward_live_subscribers{stream=\"sensors\"}";
    let all = (STUCK + READERS) as f64;
    wait::until("all watch", async || is(server.http.metric(subscribers).await?, &all)).await;

    let (producer, mut readings, database) = (Producer::connect(server.kafka()), Readings::new(), server.database());
    while readings.next() < RECORDS {
        readings.send(&producer, SENT_AT_ONCE);
        database.wait_for_all("sensors", &producer.finish()).await;
        for reader in &mut readers {
            let newest = format!("zone_{}", readings.next() - 1);
            while newest != *reader.next_record().await["data"]["location"].as_str().unwrap() {}
        }
    }
    assert_eq!(stored(&database).await.len() as u64, RECORDS);
    drop(open);
    drop(readers);
    wait::until("all sessions have left", async || is(server.http.metric(subscribers).await?, &0.0)).await;
    wait::until("the tree has forgotten them", async || {
        let sessions = server.http.actor("edge/sessions").await?;
        assert_eq!(sessions["restarts"], 0, "{sessions}");
        is(sessions["children"].as_array().map_or(0, Vec::len), &0).map_err(|error| format!("{error}: {sessions}"))
    })
    .await;
}
