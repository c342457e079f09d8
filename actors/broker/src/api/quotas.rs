//! DescribeClientQuotas and AlterClientQuotas (KIP-546): byte rates of users and client ids.

use kafka_protocol::messages::alter_client_quotas_request::{self as alter_request, OpData};
use kafka_protocol::messages::alter_client_quotas_response as alter_response;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Mode};
use crate::broker::Inner;
use crate::error::Code;
use crate::meta::{Change, Durability};
use crate::quota::{QuotaEntity, QuotaLimits, QuotaName};
use crate::wire::text;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const PRODUCE: &str = "producer_byte_rate";
const FETCH: &str = "consumer_byte_rate";
/// Entities with a stored quota.
const MAX_STORED: usize = 1_000;
const MAX_NAME_BYTES: usize = 255;

/// A refusal: its code, and words for the administrator.
type Refused = (Code, String);

fn invalid(words: impl Into<String>) -> Refused {
    (Code::InvalidRequest, words.into())
}

/// What a filter asks of one part of an entity.
enum Wanted<'a> {
    Name(&'a str),
    Default,
    Any,
}

impl Wanted<'_> {
    fn fits(&self, name: Option<&QuotaName>) -> bool {
        match (self, name) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Default, Some(name)) => *name == QuotaName::Default,
            (Self::Name(wanted), Some(name)) => matches!(name, QuotaName::Named(name) if name == wanted),
        }
    }
}

/// What a filter asks of an entity.
#[derive(Default)]
struct Filter<'a> {
    user: Option<Wanted<'a>>,
    client_id: Option<Wanted<'a>>,
    is_strict: bool,
}

impl<'a> Filter<'a> {
    fn parse(request: &'a DescribeClientQuotasRequest) -> Result<Self, Refused> {
        let mut filter = Self { is_strict: request.strict, ..Self::default() };
        for component in &request.components {
            let part = match &*component.entity_type {
                USER => &mut filter.user,
                CLIENT_ID => &mut filter.client_id,
                other => return Err(invalid(format!("quotas are for user and client-id, not for {other}"))),
            };
            if part.replace(wanted(component)?).is_some() {
                return Err(invalid(format!("{} is given twice", component.entity_type)));
            }
        }
        Ok(filter)
    }

    fn fits(&self, entity: &QuotaEntity) -> bool {
        let fits = |wanted: &Option<Wanted<'_>>, name: &Option<QuotaName>| match wanted {
            Some(wanted) => wanted.fits(name.as_ref()),
            None => !self.is_strict || name.is_none(),
        };
        fits(&self.user, &entity.user) && fits(&self.client_id, &entity.client_id)
    }
}

fn wanted(component: &ComponentData) -> Result<Wanted<'_>, Refused> {
    const EXACT: i8 = 0;
    const DEFAULT: i8 = 1;
    const ANY: i8 = 2;
    match (component.match_type, &component._match) {
        (EXACT, Some(name)) => Ok(Wanted::Name(name)),
        (DEFAULT, None) => Ok(Wanted::Default),
        (ANY, None) => Ok(Wanted::Any),
        (kind, _) => Err(invalid(format!("match type {kind} does not fit the match"))),
    }
}

/// Lists the stored quotas that a filter fits.
pub(super) fn describe(call: &Call<'_>, request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let filter = match Filter::parse(request) {
        Ok(filter) => filter,
        Err((code, words)) => {
            let refused = DescribeClientQuotasResponse::default().with_error_code(code.code()).with_entries(None);
            return refused.with_error_message(Some(text(words)));
        }
    };
    let meta = call.inner().meta.lock();
    let fitting = meta.state().quotas.iter().filter(|(entity, _)| filter.fits(entity));
    let entries =
        fitting.map(|(entity, limits)| EntryData::default().with_entity(told(entity)).with_values(values(limits)));
    DescribeClientQuotasResponse::default().with_entries(Some(entries.collect()))
}

fn told(entity: &QuotaEntity) -> Vec<EntityData> {
    let part = |kind: &'static str, name: &Option<QuotaName>| {
        let name = match name.as_ref()? {
            QuotaName::Default => None,
            QuotaName::Named(name) => Some(text(name.as_str())),
        };
        Some(EntityData::default().with_entity_type(StrBytes::from_static_str(kind)).with_entity_name(name))
    };
    [part(USER, &entity.user), part(CLIENT_ID, &entity.client_id)].into_iter().flatten().collect()
}

fn values(limits: &QuotaLimits) -> Vec<ValueData> {
    let value = |key: &'static str, value: Option<f64>| {
        Some(ValueData::default().with_key(StrBytes::from_static_str(key)).with_value(value?))
    };
    [value(PRODUCE, limits.produce), value(FETCH, limits.fetch)].into_iter().flatten().collect()
}

/// Stores and removes quotas; for each entity all of its alterations or none.
pub(super) async fn alter(call: &Call<'_>, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let mode = Mode::of(request.validate_only);
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let names = entry.entity.iter().map(|part| {
            alter_response::EntityData::default()
                .with_entity_type(part.entity_type.clone())
                .with_entity_name(part.entity_name.clone())
        });
        let answer = alter_response::EntryData::default().with_entity(names.collect());
        let work = move |broker: &Inner| {
            let entity = entity(&entry.entity)?;
            store(broker, entity, &entry.ops, mode)
        };
        let outcome =
            call.blocking(work).await.unwrap_or_else(|code| Err((code, "the work was interrupted".to_owned())));
        entries.push(match outcome {
            Ok(()) => answer,
            Err((code, words)) => answer.with_error_code(code.code()).with_error_message(Some(text(words))),
        });
    }
    AlterClientQuotasResponse::default().with_entries(entries)
}

fn entity(parts: &[alter_request::EntityData]) -> Result<QuotaEntity, Refused> {
    let mut entity = QuotaEntity { user: None, client_id: None };
    for part in parts {
        let name = match &part.entity_name {
            None => QuotaName::Default,
            Some(name) if (1..=MAX_NAME_BYTES).contains(&name.len()) => QuotaName::Named(name.to_string()),
            Some(_) => return Err(invalid("a name is 1 to 255 bytes")),
        };
        let place = match &*part.entity_type {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            other => return Err(invalid(format!("quotas are for user and client-id, not for {other}"))),
        };
        if place.replace(name).is_some() {
            return Err(invalid(format!("{} is given twice", part.entity_type)));
        }
    }
    if entity.user.is_none() && entity.client_id.is_none() {
        return Err(invalid("a quota needs a user or a client-id"));
    }
    Ok(entity)
}

fn store(broker: &Inner, entity: QuotaEntity, ops: &[OpData], mode: Mode) -> Result<(), Refused> {
    let mut meta = broker.meta.lock();
    let quotas = &meta.state().quotas;
    let known = quotas.get(&entity).copied();
    if known.is_none() && quotas.len() >= MAX_STORED {
        return Err((Code::PolicyViolation, "there are as many quotas as the broker stores".to_owned()));
    }
    let mut limits = known.unwrap_or_default();
    for op in ops {
        let place = match &*op.key {
            PRODUCE => &mut limits.produce,
            FETCH => &mut limits.fetch,
            other => return Err(invalid(format!("{other} is not supported: only {PRODUCE} and {FETCH} are"))),
        };
        let is_rate = op.value.is_finite() && op.value >= 1.0;
        if !op.remove && !is_rate {
            return Err(invalid(format!("{}: {} is no rate of at least 1 byte per second", op.key, op.value)));
        }
        *place = (!op.remove).then_some(op.value);
    }
    if mode == Mode::Check {
        return Ok(());
    }
    let stored = meta.commit(Change::Quota { entity, limits }, Durability::Synced);
    drop(meta);
    stored.map_err(|_| (Code::KafkaStorageError, "the change cannot be stored".to_owned()))?;
    broker.quotas.changed();
    Ok(())
}
