//! The broker alone: `cargo run --release -p streamward-broker --example serve -- FOLDER [ADDRESS]`.

use std::process::ExitCode;

use streamward_broker::{Broker, BrokerConfig};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next() else {
        eprintln!("usage: serve FOLDER [ADDRESS]");
        return ExitCode::from(2);
    };
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    match serve(&folder, &address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(folder: &str, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::open(BrokerConfig::new(folder))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        eprintln!("serving {folder} on {}", listener.local_addr()?);
        broker.serve(listener, async { drop(tokio::signal::ctrl_c().await) }).await
    })?;
    Ok(broker.close()?)
}
