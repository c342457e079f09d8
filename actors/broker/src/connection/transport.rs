//! How bytes reach a client, as long as it takes some: the part of a file by the kernel alone where the stream is a bare
//! socket.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::log::slice::FileSlice;

/// Bytes that are read at once where they have to pass through.
const COPY_BYTES: usize = 64 << 10;

/// How long a client may take nothing of what it is sent.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// A stream to a client.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Sends bytes.
    async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match in_time(self.write(bytes)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// Whether pieces that follow each other may travel together; what is held back goes when it ends.
    fn join_pieces(&mut self, _is_on: bool) -> io::Result<()> {
        Ok(())
    }

    /// Sends what is held back.
    async fn finish(&mut self) -> io::Result<()> {
        in_time(self.flush()).await
    }

    /// Sends a part of a file.
    async fn send_file(&mut self, slice: &FileSlice) -> io::Result<()> {
        copy(self, slice).await
    }
}

impl Transport for TlsStream<TcpStream> {}

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {}

impl Transport for TcpStream {
    #[cfg(target_os = "linux")]
    fn join_pieces(&mut self, is_on: bool) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_tcp_cork(&*self, is_on)?)
    }

    #[cfg(target_os = "linux")]
    async fn send_file(&mut self, slice: &FileSlice) -> io::Result<()> {
        let mut sent = 0;
        while sent < slice.length {
            let mut position = slice.position + sent as u64;
            let send = || {
                let count = slice.length - sent;
                rustix::fs::sendfile(&*self, &*slice.file, Some(&mut position), count).map_err(io::Error::from)
            };
            match in_time(self.async_io(tokio::io::Interest::WRITABLE, send)).await {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// One step of sending, `TimedOut` if the client takes nothing.
async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STALL_LIMIT, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn copy<S: Transport + ?Sized>(stream: &mut S, slice: &FileSlice) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(slice.length)];
    let mut sent = 0;
    while sent < slice.length {
        let part = buffer.len().min(slice.length - sent);
        slice.read_at(sent, &mut buffer[..part])?;
        stream.send(&buffer[..part]).await?;
        sent += part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const LENGTH: usize = 5 << 20;

    /// A part of a file that is larger than any buffer on the way, and its content.
    fn slice() -> (FileSlice, Vec<u8>) {
        let content: Vec<u8> = (0..LENGTH + 100).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let slice = FileSlice { file: Arc::new(file), position: 30, length: LENGTH };
        (slice, content[30..30 + LENGTH].to_vec())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (mut ours, theirs) = tokio::io::duplex(1_000);
        let (slice, content) = slice();
        let begun = tokio::time::Instant::now();
        assert_eq!(ours.send_file(&slice).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(ours.send(&content).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 2 * STALL_LIMIT.as_secs());
        drop(theirs);
    }

    async fn received(mut sender: impl Transport, mut receiver: impl AsyncRead + Unpin) {
        let (slice, content) = slice();
        let sending = async {
            sender.send_file(&slice).await.unwrap();
            sender.shutdown().await.unwrap();
        };
        let mut bytes = Vec::new();
        let (_, read) = tokio::join!(sending, receiver.read_to_end(&mut bytes));
        read.unwrap();
        assert!(bytes == content);
    }

    #[tokio::test]
    async fn a_socket_gets_exactly_the_part_of_the_file() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, connected) = tokio::join!(listener.accept(), connecting);
        received(accepted.unwrap().0, connected.unwrap()).await;
    }

    #[tokio::test]
    async fn another_stream_gets_exactly_the_part_of_the_file() {
        let (ours, theirs) = tokio::io::duplex(1_000);
        received(ours, theirs).await;
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, connected) = tokio::join!(listener.accept(), connecting);
        let slice = FileSlice { file: Arc::new(tempfile::tempfile().unwrap()), position: 0, length: 1 };
        let error = accepted.unwrap().0.send_file(&slice).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        drop(connected);
    }
}
