//! For tests: a broker that clients reach over the network.

use std::{collections::BTreeMap, net::TcpListener, thread::JoinHandle};

use streamward_broker::{Broker, BrokerConfig};
use tempfile::TempDir;

use super::KafkaSettings;

/// A broker on a thread of its own; stopped when dropped.
pub(super) struct Served {
    pub settings: KafkaSettings,
    pub broker: Broker,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Served {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bootstrap = listener.local_addr().unwrap().to_string();
        let broker = Broker::open(BrokerConfig::new(folder.path().join("broker"))).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = broker.clone();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                served.serve(listener, async { drop(stopped.await) }).await.unwrap();
            });
        };
        #[expect(clippy::disallowed_methods, reason = "joined when it is dropped")]
        let thread = std::thread::Builder::new().spawn(serve).unwrap();
        let settings = KafkaSettings { bootstrap, extra: BTreeMap::new() };
        Self { settings, broker, stop: Some(stop), thread: Some(thread), _folder: folder }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = self.stop.take().map(|stop| stop.send(()));
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}
