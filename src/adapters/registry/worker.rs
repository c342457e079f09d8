//! The role that makes the requests.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use futures_util::{
    FutureExt, StreamExt,
    future::{LocalBoxFuture, Shared},
    stream::FuturesUnordered,
};
use streamward_kit::{Failure, Scope};
use tokio::{sync::oneshot, time::Instant};

use super::{RegistryClient, RegistryHttp};
use crate::registry::schemas::RegisterError;

/// Requests under way at a time.
const MAX_UNDER_WAY: usize = 8;

type Found = Result<Option<Arc<str>>, String>;
/// Ids that are asked for: who comes later waits for the same answer.
type Flights = Rc<RefCell<HashMap<u32, Shared<LocalBoxFuture<'static, Found>>>>>;

/// What the worker is asked. The answer goes to whoever still waits for it.
pub enum Request {
    Schema { id: u32, reply: oneshot::Sender<Found> },
    Register { subject: String, schema: String, reply: oneshot::Sender<Result<u32, RegisterError>> },
    Known { subject: String, schema: String, reply: oneshot::Sender<Result<Option<u32>, RegisterError>> },
    Held { subject: String, schema: String, reply: oneshot::Sender<Result<Option<u32>, String>> },
    Latest { subject: String, reply: oneshot::Sender<Result<Option<u32>, String>> },
}

impl RegistryClient {
    /// Runs one incarnation: makes requests until the scope asks to stop.
    ///
    /// # Errors
    /// If the certificates cannot be read, or on an injected error.
    pub async fn run(self: Arc<Self>, scope: Scope) -> Result<(), Failure> {
        let http = Rc::new(RegistryHttp::new(&self.settings).map_err(Failure::new)?);
        let mut received = self.received.lock().await;
        let flights = Flights::default();
        let mut under_way: FuturesUnordered<LocalBoxFuture<'static, Result<(), String>>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = scope.stopping() => return Ok(()),
                () = scope.fault_armed("serve") => scope.fault_point("serve").await?,
                Some(said) = under_way.next() => match said {
                    Ok(()) => scope.clear_state_note(),
                    Err(reason) => scope.set_state_note(&reason),
                },
                request = received.recv(), if under_way.len() < MAX_UNDER_WAY => {
                    let Some(request) = request else { return Ok(()) };
                    let served = Self::serve(self.clone(), http.clone(), flights.clone(), request);
                    under_way.push(served.boxed_local());
                }
            }
        }
    }

    /// Carries out one request; answers why the registry did not, if it did not.
    async fn serve(self: Arc<Self>, http: Rc<RegistryHttp>, flights: Flights, request: Request) -> Result<(), String> {
        match request {
            Request::Schema { id, reply } => {
                let flight = flights.borrow().get(&id).cloned();
                let flight = flight.unwrap_or_else(|| {
                    let flight = fetch(self, http, id).boxed_local().shared();
                    flights.borrow_mut().insert(id, flight.clone());
                    flight
                });
                let found = flight.await;
                flights.borrow_mut().remove(&id);
                let said = found.as_ref().map(drop).map_err(Clone::clone);
                let _nobody_waits = reply.send(found);
                said
            }
            Request::Register { subject, schema, reply } => {
                let registered = http.register(&subject, &schema).await.map_err(RegisterError::from);
                let said = silence(&registered);
                let _nobody_waits = reply.send(registered);
                said
            }
            Request::Known { subject, schema, reply } => {
                let known = http.known(&subject, &schema).await;
                let said = silence(&known);
                let _nobody_waits = reply.send(known);
                said
            }
            Request::Held { subject, schema, reply } => {
                let held = http.held(&subject, &schema).await.map_err(|error| error.to_string());
                let said = held.as_ref().map(drop).map_err(Clone::clone);
                let _nobody_waits = reply.send(held);
                said
            }
            Request::Latest { subject, reply } => {
                let latest = http.latest(&subject).await.map_err(|error| error.to_string());
                let said = latest.as_ref().map(drop).map_err(Clone::clone);
                let _nobody_waits = reply.send(latest);
                said
            }
        }
    }
}

/// Why the registry did not answer, if it did not.
fn silence<T>(answer: &Result<T, RegisterError>) -> Result<(), String> {
    if let Err(RegisterError::Unavailable(reason)) = answer { Err(reason.clone()) } else { Ok(()) }
}

/// Asks for an id unless that was answered while the request waited.
async fn fetch(client: Arc<RegistryClient>, http: Rc<RegistryHttp>, id: u32) -> Found {
    if let Some(known) = client.cached(id) {
        return Ok(known);
    }
    let found = http.schema(id).await.map_err(|error| error.to_string())?;
    client.cache.lock().put(id, found.clone(), Instant::now());
    Ok(found)
}
