//! An HTTP server as an actor.

use streamward_kit::{Failure, Scope};

/// Runs an HTTP server until the scope asks to stop.
pub async fn serve(scope: Scope, server: actix_web::dev::Server) -> Result<(), Failure> {
    let handle = server.handle();
    let _waiting = scope.waiting_on("clients");
    tokio::select! {
        served = server => served.map_err(Failure::from),
        failure = scope.struck("serve") => Err(failure),
        () = scope.stopping() => {
            handle.stop(false).await;
            Ok(())
        }
    }
}
