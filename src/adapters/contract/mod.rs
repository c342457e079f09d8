//! What every database has to do, as tests that run on each.
//!
//! A test takes a [`scratch::Scratch`]: a database of its own. Those on PostgreSQL need a server, on which the user may make
//! databases: `STREAMWARD_POSTGRES=postgres://… cargo test --lib --features postgres-tests -- contract`.

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

        #[cfg(feature = "postgres-tests")]
        mod on_postgres {
            $(#[actix::test]
            async fn $test() {
                let scratch = super::Scratch::postgres().await;
                super::$test(scratch).await;
            })*
        }
    };
}
use contract;
