//! What every database has to do, as tests that run on each.
//!
//! A test takes a [`scratch::Scratch`]: a database of its own. Those on PostgreSQL need a server, whose URL is in
//! `STREAMWARD_POSTGRES`; they are run with `cargo test --lib -- --ignored contract`.

mod apart;
mod decisions;
mod facts;
pub mod fixture;
mod protocol;
pub mod scratch;

/// Runs tests on each database.
macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[actix::test]
            async fn $test() {
                super::$test(super::Scratch::sqlite()).await;
            })*
        }
    };
}
use contract;
