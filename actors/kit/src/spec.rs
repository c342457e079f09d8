//! What the tree is made of: a child is a factory and a policy.
//!
//! A factory makes a fresh value for each incarnation; what shall outlive it (inboxes, committed state) is captured
//! by the factory. It may panic or fail: that is a failure of the child.
//!
//! | child | runs | ends when asked | can be aborted |
//! |---|---|---|---|
//! | [`ChildSpec::role`] | as a future on the thread of its [`Placement`] | at its next look or wait | at its next wait |
//! | [`ChildSpec::thread`] | on an OS thread of its own | at its next look at its scope | no: fenced and left behind |
//! | [`ChildSpec::supervisor`] | as decisions of the one driver | after its children, in reverse | no: its leaves have limits |
//!
//! Children are started in the order of the list, without waiting until the one before is ready. Ids are checked, and
//! used once, before anything starts ([`crate::SpecError`]).

use std::{future::Future, sync::Arc};

use futures_util::future::LocalBoxFuture;

use crate::{
    Scope,
    exit::Failure,
    inbox::{Inbox, InboxProbe},
    path::{ActorPath, PathError},
    policy::{ChildPolicy, Intensity, Strategy, SupervisorPolicy},
    progress::{Progress, ProgressProbe},
};

/// What a role or thread ends with.
pub type RoleResult = Result<(), Failure>;

pub(crate) type RoleFactory = Arc<dyn Fn(Scope) -> LocalBoxFuture<'static, RoleResult> + Send + Sync>;
pub(crate) type ThreadFactory = Arc<dyn Fn(Scope) -> RoleResult + Send + Sync>;

/// Which thread hosts a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The thread of the supervisors themselves; only for roles that never block.
    #[default]
    Main,
    /// The arbiter of this name, shared by all roles that name it.
    Pool(Arc<str>),
    /// An arbiter of its own.
    Dedicated,
}

impl Placement {
    /// The shared arbiter `name`.
    #[must_use]
    pub fn pool(name: &str) -> Self {
        Self::Pool(Arc::from(name))
    }
}

/// Changes the policies of the node at a path; supervisors have two.
pub type Adjust<'a> = dyn FnMut(&ActorPath, &mut ChildPolicy, Option<&mut SupervisorPolicy>) + 'a;

/// What a child is made from.
#[derive(Clone)]
pub(crate) enum Body {
    Role(RoleFactory),
    Thread(ThreadFactory),
    Supervisor(SupervisorPolicy, Vec<ChildSpec>),
}

/// One child: id, kind, factory, policy.
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: String,
    pub(crate) kind: Arc<str>,
    pub(crate) body: Body,
    pub(crate) policy: ChildPolicy,
    pub(crate) placement: Placement,
    pub(crate) inboxes: Vec<Arc<dyn InboxProbe>>,
    pub(crate) progress: Option<ProgressProbe>,
}

impl ChildSpec {
    /// An async role hosted by an actix actor; `kind` is what the tree shows (`lane`, `sink`).
    ///
    /// The future is made on the thread that hosts it and need not be `Send`.
    pub fn role<F, R>(id: impl Into<String>, kind: &str, factory: F) -> Self
    where
        F: Fn(Scope) -> R + Send + Sync + 'static,
        R: Future<Output = RoleResult> + 'static,
    {
        let factory: RoleFactory = Arc::new(move |scope| Box::pin(factory(scope)));
        Self::new(id.into(), kind, Body::Role(factory))
    }

    /// A role with an OS thread of its own; it must look at `scope.is_stopping()` now and then.
    pub fn thread<F>(id: impl Into<String>, kind: &str, factory: F) -> Self
    where
        F: Fn(Scope) -> RoleResult + Send + Sync + 'static,
    {
        Self::new(id.into(), kind, Body::Thread(Arc::new(factory)))
    }

    /// A supervisor below.
    #[must_use]
    pub fn supervisor(spec: SupervisorSpec) -> Self {
        let SupervisorSpec { id, policy, children } = spec;
        Self::new(id, "supervisor", Body::Supervisor(policy, children))
    }

    fn new(id: String, kind: &str, body: Body) -> Self {
        let (policy, placement) = (ChildPolicy::default(), Placement::default());
        Self { id, kind: Arc::from(kind), body, policy, placement, inboxes: Vec::new(), progress: None }
    }

    /// Sets how it is looked after.
    #[must_use]
    pub fn policy(self, policy: ChildPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Sets which thread hosts it; without meaning for threads and supervisors.
    #[must_use]
    pub fn placement(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// Shows an inbox at this child in the tree.
    #[must_use]
    pub fn inbox<T: Send + Sync + 'static>(mut self, inbox: &Inbox<T>) -> Self {
        self.inboxes.push(inbox.probe());
        self
    }

    /// Lets the watchdog compare what is done with what is pending, beyond its inboxes (see `no_progress_after`).
    ///
    /// The probe is called about once a second and must not block; it returns none while the actor has a good reason
    /// to stand still. A message in hand and a wait for another actor are good reasons anyway.
    #[must_use]
    pub fn progress(self, probe: impl Fn() -> Option<Progress> + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(probe)), ..self }
    }

    /// Calls `adjust` with the path and the policies of this child and of all below it, parents first.
    ///
    /// # Errors
    /// An id that is not valid.
    pub fn adjust(&mut self, above: &ActorPath, adjust: &mut Adjust<'_>) -> Result<(), PathError> {
        let path = above.child(&self.id)?;
        let Body::Supervisor(supervision, children) = &mut self.body else {
            adjust(&path, &mut self.policy, None);
            return Ok(());
        };
        adjust(&path, &mut self.policy, Some(supervision));
        children.iter_mut().try_for_each(|child| child.adjust(&path, adjust))
    }
}

/// A supervisor and its children, in start order.
#[derive(Clone)]
pub struct SupervisorSpec {
    pub(crate) id: String,
    pub(crate) policy: SupervisorPolicy,
    pub(crate) children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor without children and with default policy; the id of the root is not shown.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), policy: SupervisorPolicy::default(), children: Vec::new() }
    }

    /// Sets the whole policy.
    #[must_use]
    pub fn policy(self, policy: SupervisorPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Sets who restarts together.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.policy.strategy = strategy;
        self
    }

    /// Sets when it gives up.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.policy.intensity = intensity;
        self
    }

    /// Sets the most children, static and dynamic.
    #[must_use]
    pub fn max_children(mut self, max_children: usize) -> Self {
        self.policy.max_children = max_children;
        self
    }

    /// Adds a child after the others.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }
}
