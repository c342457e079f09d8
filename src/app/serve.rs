//! An HTTP server as an actor.

use std::time::Duration;

use streamward_kit::{Failure, Scope};

/// How often injected faults are looked for.
const FAULTS_EVERY: Duration = Duration::from_millis(50);

/// Runs an HTTP server until the scope asks to stop.
pub async fn serve(scope: Scope, server: actix_web::dev::Server) -> Result<(), Failure> {
    let handle = server.handle();
    let _waiting = scope.waiting_on("clients");
    let faults = async {
        loop {
            tokio::time::sleep(FAULTS_EVERY).await;
            if let Err(failure) = scope.fault_point("serve").await {
                return failure;
            }
        }
    };
    tokio::select! {
        served = server => served.map_err(Failure::from),
        failure = faults => Err(failure),
        () = scope.stopping() => {
            handle.stop(false).await;
            Ok(())
        }
    }
}
