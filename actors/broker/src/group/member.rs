//! One member of a consumer group, and what it asks for and is answered.

use bytes::Bytes;

use crate::error::Code;

/// Identifies a request that waits for its answer.
pub(crate) type Token = u64;

/// Whether a new dynamic member must come back with the id it is given (KIP-394).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewMember {
    MustReturnWithId,
    JoinsAtOnce,
}

/// Whether the client understands that a returning leader need not assign again (KIP-814).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipAssignment {
    Understood,
    Unknown,
}

/// A client's wish to be a member of the next generation.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    /// Empty for a new member.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub protocol_type: String,
    /// By preference; the metadata are opaque.
    pub protocols: Vec<(String, Bytes)>,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    pub new_member: NewMember,
    pub skip_assignment: SkipAssignment,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinReply {
    pub error: Option<Code>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// All members, for the leader only.
    pub members: Vec<Subscription>,
}

impl JoinReply {
    pub fn refused(error: Code, member_id: impl Into<String>) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id: member_id.into(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// A member's question for its assignment; the leader brings all of them.
#[derive(Debug, Clone)]
pub(crate) struct SyncRequest {
    pub identity: Identity,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncReply {
    pub error: Option<Code>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

impl SyncReply {
    pub fn refused(error: Code) -> Self {
        Self { error: Some(error), protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// Who a client says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

/// What a state change asks the shell to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    AnswerJoin(Token, JoinReply),
    AnswerSync(Token, SyncReply),
}

/// A member of a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub protocols: Vec<(String, Bytes)>,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    pub skip_assignment: SkipAssignment,
    /// When its session ends unless it is heard of; not looked at while a request waits.
    pub session_ends_ms: u64,
    pub assignment: Bytes,
    pub joining: Option<Token>,
    pub syncing: Option<Token>,
    /// Whether it asked for its assignment in this generation.
    pub has_synced: bool,
}

impl Member {
    pub fn new(request: JoinRequest, now_ms: u64) -> Self {
        Self {
            session_ends_ms: now_ms + request.session_timeout_ms,
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            protocols: request.protocols,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            skip_assignment: request.skip_assignment,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            has_synced: false,
        }
    }

    /// The member as it comes back: with its assignment, waiting for nothing.
    pub fn renewed(&self, request: JoinRequest, now_ms: u64) -> Self {
        Self { assignment: self.assignment.clone(), ..Self::new(request, now_ms) }
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }

    pub fn heard(&mut self, now_ms: u64) {
        self.session_ends_ms = now_ms + self.session_timeout_ms;
    }

    pub fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}
