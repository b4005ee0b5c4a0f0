//! What a prepared statement's or a portal's name means, though requests run ahead
//! of responses.
//!
//! The server's responses, in their order, make the settled view. Ahead of it, the
//! names of the current part of the pipeline (up to its Sync) have their own view:
//! it is exact, or else an error has made the server skip to that Sync. What an
//! earlier, unfinished part has touched is unsettled until that part's end.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{journal::Parameter, mask::Column, proxy::admission::Permit};

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The client's text.
    pub(super) sql: Arc<str>,
    /// The types that its Parse names.
    pub(super) types: Bytes,
    /// What its Parse was permitted.
    pub(super) permit: Arc<Permit>,
    /// The columns of its result, once the server has described it.
    pub(super) columns: OnceLock<Arc<[Column]>>,
}

/// A portal.
#[derive(Debug)]
pub(super) struct Portal {
    /// What it runs.
    pub(super) prepared: Arc<Prepared>,
    /// With which values.
    pub(super) parameters: Arc<[Parameter]>,
    /// What its first Execute was permitted, where a reviewer had to agree: the ones
    /// that fetch the rest of its rows belong to the same run.
    pub(super) approved: OnceLock<Arc<Permit>>,
    /// Its Bind, where its rows may have to be foreseen.
    pub(super) bind: Option<Bytes>,
    /// Which of its columns come in binary: see [`wire::Bind`](crate::wire::Bind).
    pub(super) binary: Vec<bool>,
}

impl Portal {
    /// The columns of its result in the formats of its Bind; none where the server
    /// hasn't described it.
    pub(super) fn columns(&self) -> Arc<[Column]> {
        let described = self.prepared.columns.get().map(Arc::as_ref).unwrap_or_default();
        let columns = described.iter().enumerate().map(|(at, column)| {
            let format =
                if self.binary.len() > 1 { self.binary.get(at) } else { self.binary.first() };
            Column { binary: format.copied().unwrap_or(false), ..column.clone() }
        });
        columns.collect()
    }
}

/// A name's meaning.
#[derive(Debug)]
pub(super) enum Meaning<T> {
    /// This.
    Known(Arc<T>),
    /// Nothing that came through pgate.
    Unknown,
    /// It hangs on responses that haven't come yet.
    Unsettled,
}

#[derive(Debug)]
struct Ahead<T> {
    part: u64,
    meaning: Option<Arc<T>>,
}

/// Values by name. The empty name has a place of its own: most drivers use no other portal.
#[derive(Debug)]
struct ByName<V> {
    unnamed: Option<V>,
    named: HashMap<Arc<str>, V>,
}

impl<V> Default for ByName<V> {
    fn default() -> Self {
        Self { unnamed: None, named: HashMap::new() }
    }
}

impl<V> ByName<V> {
    fn get(&self, name: &str) -> Option<&V> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    fn insert(&mut self, name: Arc<str>, value: V) {
        if name.is_empty() {
            self.unnamed = Some(value);
        } else {
            self.named.insert(name, value);
        }
    }

    fn remove(&mut self, name: &str) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.named.remove(name);
        }
    }

    fn retain(&mut self, keeps: impl Fn(&V) -> bool) {
        if self.unnamed.as_ref().is_some_and(|value| !keeps(value)) {
            self.unnamed = None;
        }
        if !self.named.is_empty() {
            self.named.retain(|_, value| keeps(value));
        }
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.unnamed.iter_mut().chain(self.named.values_mut())
    }

    fn clear(&mut self) {
        self.unnamed = None;
        if !self.named.is_empty() {
            self.named.clear();
        }
    }

    fn len(&self) -> usize {
        usize::from(self.unnamed.is_some()) + self.named.len()
    }
}

/// What the names of one kind mean.
#[derive(Debug)]
pub(super) struct Names<T> {
    settled: ByName<Arc<T>>,
    ahead: ByName<Ahead<T>>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { settled: ByName::default(), ahead: ByName::default() }
    }
}

impl<T> Names<T> {
    /// What a name means to a request in this part of the pipeline.
    pub(super) fn meaning(&self, name: &str, part: u64) -> Meaning<T> {
        match self.ahead.get(name) {
            Some(ahead) if ahead.part == part => match &ahead.meaning {
                Some(meaning) => Meaning::Known(Arc::clone(meaning)),
                None => Meaning::Unknown,
            },
            Some(_) => Meaning::Unsettled,
            None => match self.settled.get(name) {
                Some(meaning) => Meaning::Known(Arc::clone(meaning)),
                None => Meaning::Unknown,
            },
        }
    }

    /// A request of this part of the pipeline gives a name a meaning, or none.
    pub(super) fn request(&mut self, name: Arc<str>, part: u64, meaning: Option<Arc<T>>) {
        self.ahead.insert(name, Ahead { part, meaning });
    }

    /// A request of this part of the pipeline takes every name its meaning.
    pub(super) fn request_none(&mut self, part: u64) {
        for ahead in self.ahead.values_mut() {
            *ahead = Ahead { part, meaning: None };
        }
        let settled = self.settled.named.keys().cloned().collect::<Vec<_>>();
        for name in settled.into_iter().chain(["".into()]) {
            self.request(name, part, None);
        }
    }

    /// The server has given a name its meaning.
    pub(super) fn settle(&mut self, name: Arc<str>, meaning: Arc<T>) {
        self.settled.insert(name, meaning);
    }

    /// The server has dropped a name.
    pub(super) fn drop_name(&mut self, name: &str) {
        self.settled.remove(name);
    }

    /// The server has dropped every name.
    pub(super) fn drop_all(&mut self) {
        self.settled.clear();
    }

    /// Whether anything is so that a name means, or may come to mean.
    pub(super) fn any(&self, name: &str, is_so: impl Fn(&T) -> bool) -> bool {
        let ahead = self.ahead.get(name).and_then(|ahead| ahead.meaning.as_ref());
        self.settled.get(name).into_iter().chain(ahead).any(|meaning| is_so(meaning))
    }

    /// The server has finished this part of the pipeline.
    pub(super) fn finish(&mut self, part: u64) {
        self.ahead.retain(|ahead| ahead.part > part);
    }

    /// The server has ignored the Sync of this part: it goes on as the next one. Those
    /// behind have Syncs of their own, and what an error skips in them isn't known yet.
    pub(super) fn join(&mut self, part: u64) {
        for ahead in self.ahead.values_mut().filter(|ahead| ahead.part <= part) {
            ahead.part = part + 1;
        }
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.settled.len() + self.ahead.len()
    }
}
