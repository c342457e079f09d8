//! The port of the whole database: which connection does what.

use std::{sync::Arc, time::Duration};

use sqlx::{
    Connection as _, PgConnection, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};
use streamward_core::table::Layout;
use streamward_pipeline::{
    logs::LogIdentity,
    relay::{EntryId, Fact, FactKind, Outbox},
    store::{
        Assignment, BoxFuture, Mended, Outcome, PartitionKey, Pending, Retained, RetentionPolicy, SinkStore, Start,
        Store, StoreError, Trouble, Upkeep,
    },
};
use tokio::sync::{Mutex, Notify};

use super::{
    assign,
    connection::{Line, WriteError, connect, within},
    ddl, memory, orphans, outbox, retention,
    settings::PostgresSettings,
    upkeep,
    windows::WindowStatements,
};
use crate::adapters::seen::SeenKeys;

/// Servers that do not know `NULLS NOT DISTINCT` are too old.
const MIN_VERSION: i32 = 150_000;
/// Lets one server after the other make tables.
const OPENING: &str = "SELECT pg_advisory_lock(hashtext('streamward: tables'))";
const OPENED: &str = "SELECT pg_advisory_unlock(hashtext('streamward: tables'))";

/// A PostgreSQL database.
pub struct PostgresStore {
    pub(super) layout: Layout,
    pub(super) windows: WindowStatements,
    /// Newest minute stored of each key, so that a key is written once a minute.
    pub(super) seen: Mutex<SeenKeys>,
    /// The newest day whose partitions are there for certain.
    pub(super) day: Mutex<Option<i64>>,
    /// Commits and assignments.
    writer: Line,
    /// What relays ask and tell.
    relays: Line,
    /// Upkeep and what operators do.
    keeper: Line,
    /// Retention: it reads a day before it drops it.
    retainer: Line,
    /// Questions after its health.
    prober: Line,
    /// One notice per kind of fact that follows SQL.
    changed: [Notify; 2],
    /// Told after each commit.
    wrote: Notify,
}

impl PostgresStore {
    /// Migrates the database and creates the tables that the layout asks for. Alerts whose rule or pipeline the layout does
    /// not have are resolved.
    ///
    /// # Errors
    /// If it does not answer, is too old, or holds rows that mean something else than the layout says.
    pub async fn open(settings: &PostgresSettings, layout: Layout) -> Result<Self, StoreError> {
        let mut connection = connect(settings, "start").await?;
        let resolved = prepare(&mut connection, &layout).await?;
        // What was done is done; how the connection ends is of no interest.
        let _ = connection.close().await;
        let line = |role| Line::new(settings, role);
        let store = Self {
            windows: WindowStatements::new(&layout.windows),
            layout,
            seen: Mutex::default(),
            day: Mutex::default(),
            writer: line("writer"),
            relays: line("relays"),
            keeper: line("keeper"),
            retainer: Line::for_long_work(settings, "retention"),
            prober: line("prober"),
            changed: Default::default(),
            wrote: Notify::new(),
        };
        if resolved > 0 {
            store.announce_changes();
        }
        Ok(store)
    }

    fn announce_changes(&self) {
        for changed in &self.changed {
            changed.notify_one();
        }
    }

    async fn take_over(&self, key: &PartitionKey, log: &LogIdentity) -> Result<Assignment, StoreError> {
        let mut writer = self.writer.take().await?;
        let number = within(self.writer.within(), assign::log_number(&mut writer, key, log)).await?;
        if number.others > 0 {
            let place = (&*key.sink, &*key.topic);
            let resolving = orphans::resolve_other_logs(&mut writer, place, number.log);
            if within(self.writer.within(), async { resolving.await.map_err(WriteError::from) }).await? > 0 {
                self.announce_changes();
            }
        }
        let assignment = within(self.writer.within(), assign::take_over(&mut writer, key, number.log)).await?;
        writer.keep();
        Ok(assignment)
    }

    async fn write(&self, pending: &[Arc<Pending>]) -> Result<Vec<Outcome>, StoreError> {
        let mut writer = self.writer.take().await?;
        let (outcomes, outbox_grew) = within(self.writer.within(), self.commit_on(&mut writer, pending)).await?;
        writer.keep();
        self.wrote.notify_one();
        if outbox_grew {
            self.announce_changes();
        }
        Ok(outcomes)
    }
}

/// Does a piece of work on a line.
async fn on<T>(
    line: &Line,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, StoreError> {
    let mut held = line.take().await?;
    let done = within(line.within(), async { work(&mut held).await.map_err(WriteError::from) }).await?;
    held.keep();
    Ok(done)
}

/// Brings the database up to date, one server after the other; returns how many alerts were resolved.
async fn prepare(connection: &mut PgConnection, layout: &Layout) -> Result<u64, StoreError> {
    let of_sql = |error: sqlx::Error| StoreError::from(WriteError::from(error));
    let version: String =
        sqlx::query_scalar("SHOW server_version_num").fetch_one(&mut *connection).await.map_err(of_sql)?;
    if version.parse::<i32>().is_ok_and(|version| version < MIN_VERSION) {
        let version = version.parse::<i32>().unwrap_or(0) / 10_000;
        return Err(StoreError::Protocol(format!("PostgreSQL {version} is too old: it has to be 15 or later")));
    }
    let limits = "SET statement_timeout = 0; SET lock_timeout = '60s'";
    sqlx::raw_sql(limits).execute(&mut *connection).await.map_err(of_sql)?;
    sqlx::query(OPENING).execute(&mut *connection).await.map_err(of_sql)?;
    let migrated = Migrator::with_migrations(migrations()).run_direct(None, &mut *connection, false).await;
    migrated.map_err(|error| StoreError::Protocol(format!("migrate the database: {error}")))?;
    memory::adopt(connection, layout).await?;
    for table in &layout.streams {
        ddl::create_stream_table(connection, table).await?;
    }
    for table in &layout.windows {
        ddl::create_window_table(connection, table).await?;
    }
    memory::remember(connection, &layout.definitions).await?;
    let resolved = orphans::resolve_unconfigured(connection, layout).await.map_err(of_sql)?;
    sqlx::query(OPENED).execute(connection).await.map_err(of_sql)?;
    Ok(resolved)
}

fn migrations() -> Vec<Migration> {
    let sql = include_str!("migrations/0001_streamward.sql").into_sql_str();
    vec![Migration::new(1, "streamward".into(), MigrationType::Simple, sql, false)]
}

impl SinkStore for PostgresStore {
    fn assign<'a>(
        &'a self,
        key: &'a PartitionKey,
        log: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Assignment, StoreError>> {
        Box::pin(self.take_over(key, log))
    }

    fn start_at<'a>(&'a self, key: &'a PartitionKey, start: Start) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut writer = self.writer.take().await?;
            within(self.writer.within(), assign::set_position(&mut writer, key, &start)).await?;
            writer.keep();
            Ok(())
        })
    }

    fn begin_rules<'a>(&'a self, key: &'a PartitionKey, log: i64) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let resolved = on(&self.writer, async |writer| orphans::resolve_partition(writer, key, log).await).await?;
            if resolved > 0 {
                self.announce_changes();
            }
            Ok(())
        })
    }

    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        Box::pin(self.write(pending))
    }
}

impl Outbox for PostgresStore {
    fn changed(&self, kind: FactKind) -> BoxFuture<'_, ()> {
        Box::pin(self.changed[outbox::index(kind)].notified())
    }

    fn facts(&self, kind: FactKind) -> BoxFuture<'_, Result<Vec<Fact>, StoreError>> {
        Box::pin(on(&self.relays, async move |relays| outbox::page(relays, kind).await))
    }

    fn sent<'a>(&'a self, kind: FactKind, entries: &'a [EntryId]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(on(&self.relays, async move |relays| outbox::sent(relays, kind, entries).await))
    }

    fn undeliverable<'a>(&'a self, kind: FactKind, id: i64, why: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(on(&self.relays, async move |relays| outbox::undeliverable(relays, kind, (id, why)).await))
    }
}

impl Store for PostgresStore {
    fn note_action<'a>(
        &'a self,
        who: &'a str,
        action: &'a str,
        target: &'a str,
        detail: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let note =
            async move |keeper: &mut PgConnection| upkeep::note_action(keeper, (who, action), (target, detail)).await;
        Box::pin(on(&self.keeper, note))
    }

    fn newest_positions<'a>(
        &'a self,
        sink: &'a Arc<str>,
        topic: &'a Arc<str>,
    ) -> BoxFuture<'a, Result<Vec<(i32, i64)>, StoreError>> {
        Box::pin(on(&self.prober, async move |prober| upkeep::newest_positions(prober, (sink, topic)).await))
    }

    fn retain<'a>(&'a self, policy: &'a RetentionPolicy) -> BoxFuture<'a, Result<Retained, StoreError>> {
        Box::pin(on(&self.retainer, async move |retainer| retention::retain(retainer, &self.layout, policy).await))
    }

    fn written(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.wrote.notified())
    }

    fn upkeep(&self) -> BoxFuture<'_, Result<Upkeep, StoreError>> {
        Box::pin(on(&self.keeper, async move |keeper| upkeep::make_days(keeper, &self.layout).await))
    }

    fn probe(&self, within: Duration) -> BoxFuture<'_, Result<(), Trouble>> {
        Box::pin(async move {
            let mut prober = self.prober.take().await.map_err(|error| Trouble::Busy(error.to_string()))?;
            upkeep::probe(&mut prober, within).await?;
            prober.keep();
            Ok(())
        })
    }

    /// It mends itself: every connection is made anew when it is needed.
    fn mend(&self) -> BoxFuture<'_, Result<Mended, StoreError>> {
        Box::pin(async { Ok(Mended::Whole) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            for line in [&self.writer, &self.relays, &self.keeper, &self.retainer, &self.prober] {
                line.close().await;
            }
            Ok(())
        })
    }
}
