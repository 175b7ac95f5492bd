//! Who the members are, epoch by epoch (rules 4, 11, 12; `docs/membership.md`).
//!
//! A [`Configuration`] is what one chosen log entry fixes: rules and members, and a change under way.
//! What a node knows of all of them is [`Epochs`](super::Epochs).
//!
//! Invariants: an id has one address and one data directory for ever, and is never used again after
//! it left; at most one change is under way; rules and list agree on N.

use super::{ClusterConfig, ConfigError, EpochConfig};
use crate::types::{Bytes, Code, Content, DecodeError, Epoch, NodeId, NodeSet, Reader, Writer};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A node in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its id.
    pub id: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data directory (rule 12); 0 where the log does not say.
    pub incarnation: u64,
}

/// A change of the members under way: the newcomer learns, and has no vote yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The newcomer.
    pub joins: Option<Seat>,
    /// The member that is to go; a newcomer beside it takes its place.
    pub leaves: Option<NodeId>,
    /// The code of the epoch after it.
    pub code: Code,
}

/// What one configuration entry of the log fixes for the slots after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Policy, code and N.
    pub rules: EpochConfig,
    /// The members; a member's place is the home of its shard.
    pub members: Arc<[Seat]>,
    /// The change under way.
    pub change: Option<Change>,
    /// Ids that left, or that never came to be members: refused for ever.
    pub retired: NodeSet,
}

/// Why a change cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// Another change is under way.
    UnderWay,
    /// The id is or was a member's, or is above 31.
    IdUsed,
    /// The address is a member's.
    AddressUsed,
    /// The node that is to go is none.
    NotMember,
    /// The rules that would follow are impossible.
    Unsafe(ConfigError),
}

impl Configuration {
    /// The first one: the cluster file's.
    #[must_use]
    pub fn first(cluster: &ClusterConfig) -> Self {
        let seats = cluster.members.iter().map(|member| Seat {
            id: member.id,
            address: member.address,
            incarnation: 0,
        });
        let (rules, members) = (cluster.epoch(), seats.collect());
        Self { rules, members, change: None, retired: NodeSet::EMPTY }
    }

    /// `rules` for the nodes 0, 1, …, N - 1, at addresses that lead nowhere.
    #[must_use]
    pub fn of_ranks(rules: EpochConfig) -> Self {
        let seat = |rank: u8| Seat {
            id: NodeId(rank),
            address: SocketAddr::from(([127, 0, 0, 1], 9000 + u16::from(rank))),
            incarnation: 0,
        };
        let members = (0..rules.nodes).map(seat).collect();
        Self { rules, members, change: None, retired: NodeSet::EMPTY }
    }

    /// The ids of the members.
    #[must_use]
    pub fn ids(&self) -> NodeSet {
        self.members.iter().map(|seat| seat.id.0).collect()
    }

    /// Members and newcomer.
    pub fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.members.iter().chain(self.newcomer())
    }

    /// The newcomer of the change under way.
    #[must_use]
    pub fn newcomer(&self) -> Option<&Seat> {
        self.change.as_ref().and_then(|change| change.joins.as_ref())
    }

    /// Has the node a vote?
    #[must_use]
    pub fn is_member(&self, id: u8) -> bool {
        self.members.iter().any(|seat| seat.id.0 == id)
    }

    /// Was it a member once, or to be one, and is refused for ever?
    #[must_use]
    pub fn is_retired(&self, id: u8) -> bool {
        self.retired.contains(id)
    }

    /// The place of a member, or the future one of the newcomer.
    #[must_use]
    pub fn place(&self, id: u8) -> Option<u8> {
        let of = |id: u8| self.members.iter().position(|seat| seat.id.0 == id);
        let place = of(id).or_else(|| {
            let change = self.change.as_ref().filter(|c| c.joins.is_some_and(|j| j.id.0 == id))?;
            change.leaves.map_or(Some(self.members.len()), |leaves| of(leaves.0))
        })?;
        u8::try_from(place).ok()
    }

    /// The same members under other rules.
    #[must_use]
    pub fn with_rules(&self, wanted: EpochConfig) -> Self {
        Self { rules: EpochConfig { epoch: self.next_epoch(), ..wanted }, ..self.clone() }
    }

    /// The configuration in which `change` is under way.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn with_change(&self, change: Change) -> Result<Self, ChangeError> {
        if self.change.is_some() {
            return Err(ChangeError::UnderWay);
        }
        let is_nothing = change.leaves.is_none() && change.joins.is_none();
        if is_nothing || change.leaves.is_some_and(|leaves| !self.is_member(leaves.0)) {
            return Err(ChangeError::NotMember);
        }
        if let Some(joins) = change.joins {
            if joins.id.0 >= 32 || self.is_member(joins.id.0) || self.is_retired(joins.id.0) {
                return Err(ChangeError::IdUsed);
            }
            if self.members.iter().any(|seat| seat.address == joins.address) {
                return Err(ChangeError::AddressUsed);
            }
        }
        let rules = EpochConfig { epoch: self.next_epoch(), ..self.rules };
        let begun = Self { rules, change: Some(change), ..self.clone() };
        begun.changed(0).rules.checked().map_err(ChangeError::Unsafe)?;
        Ok(begun)
    }

    /// The configuration after the change under way; the newcomer's data directory is known now.
    #[must_use]
    pub fn changed(&self, incarnation: u64) -> Self {
        let Some(change) = self.change else { return self.clone() };
        let mut members = self.members.to_vec();
        let mut retired = self.retired;
        let joins = change.joins.map(|seat| Seat { incarnation, ..seat });
        let place = change.leaves.and_then(|id| members.iter().position(|seat| seat.id == id));
        if let Some(leaves) = change.leaves {
            retired.insert(leaves.0);
        }
        match (joins, place) {
            (Some(joins), Some(place)) => members[place] = joins,
            (Some(joins), None) => members.push(joins),
            (None, Some(place)) => {
                members.remove(place);
            }
            (None, None) => {}
        }
        let nodes = u8::try_from(members.len()).unwrap_or(u8::MAX);
        let rules =
            EpochConfig { epoch: self.next_epoch(), nodes, code: change.code, ..self.rules };
        let rules = rules.checked().unwrap_or(rules);
        Self { rules, members: members.into(), change: None, retired }
    }

    /// It with the data directories of its members as far as `known` tells those that it does not name.
    #[must_use]
    pub fn naming(self, known: impl Fn(NodeId) -> Option<u64>) -> Self {
        let name = |seat: &Seat| match seat.incarnation {
            0 => Seat { incarnation: known(seat.id).unwrap_or(0), ..*seat },
            _ => *seat,
        };
        Self { members: self.members.iter().map(name).collect(), ..self }
    }

    /// The configuration in which the change under way is given up; its newcomer's id is spent.
    #[must_use]
    pub fn cancelled(&self) -> Self {
        let mut retired = self.retired;
        if let Some(newcomer) = self.newcomer() {
            retired.insert(newcomer.id.0);
        }
        let rules = EpochConfig { epoch: self.next_epoch(), ..self.rules };
        Self { rules, change: None, retired, ..self.clone() }
    }

    fn next_epoch(&self) -> Epoch {
        Epoch(self.rules.epoch.0 + 1)
    }

    /// It as a value's header.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut to = Writer::new();
        to.u8(Content::CONFIGURATION);
        self.write(&mut to);
        to.finish().pop().unwrap_or_default()
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Self::encode`] does not write of a checked one.
    pub fn decode(header: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(header);
        let tag = from.u8("content")?;
        if tag != Content::CONFIGURATION {
            return Err(invalid("content", tag));
        }
        let configuration = Self::read(&mut from)?;
        from.finish()?;
        Ok(configuration)
    }

    /// Its encoding within a message.
    pub fn write(&self, to: &mut Writer) {
        self.rules.write(to);
        for seat in self.members.iter() {
            seat.write(to);
        }
        to.u32(self.retired.0);
        to.u8(u8::from(self.change.is_some()));
        if let Some(change) = &self.change {
            to.u8(change.code.k());
            to.u8(change.code.m());
            to.u8(change.leaves.map_or(NOBODY, |id| id.0));
            to.u8(u8::from(change.joins.is_some()));
            if let Some(joins) = &change.joins {
                joins.write(to);
            }
        }
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut short or nothing that could be.
    pub fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let rules = EpochConfig::read(from)?;
        let members = read_seats(from, rules.nodes)?;
        let retired = NodeSet(from.u32("retired")?);
        let mut configuration = Self { rules, members, change: None, retired };
        if !configuration.ids().intersection(retired).is_empty() {
            return Err(DecodeError::Invalid { field: "retired", value: u64::from(retired.0) });
        }
        match from.u8("change")? {
            0 => return Ok(configuration),
            1 => {}
            other => return Err(invalid("change", other)),
        }
        let (k, m) = (from.u8("k")?, from.u8("m")?);
        let code = Code::new(k, m).map_err(|_| invalid("code", k))?;
        let leaves = Some(from.u8("leaves")?).filter(|id| *id != NOBODY).map(NodeId);
        let joins = match from.u8("joins")? {
            0 => None,
            1 => Some(Seat::read(from)?),
            other => return Err(invalid("joins", other)),
        };
        let begun = configuration.with_change(Change { joins, leaves, code });
        configuration.change = begun.map_err(|_| invalid("change", 1))?.change;
        Ok(configuration)
    }
}

impl Seat {
    pub(super) fn write(&self, to: &mut Writer) {
        to.u8(self.id.0);
        match self.address.ip() {
            IpAddr::V4(ip) => {
                to.u8(4);
                to.u32(ip.to_bits());
            }
            IpAddr::V6(ip) => {
                to.u8(6);
                to.u128(ip.to_bits());
            }
        }
        to.u32(u32::from(self.address.port()));
        to.u64(self.incarnation);
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let id = from.u8("seat")?;
        if id >= 32 {
            return Err(invalid("seat", id));
        }
        let ip = match from.u8("address")? {
            4 => IpAddr::V4(from.u32("address")?.into()),
            6 => IpAddr::V6(from.u128("address")?.into()),
            other => return Err(invalid("address", other)),
        };
        let port = from.u32("port")?;
        let port = u16::try_from(port)
            .map_err(|_| DecodeError::Invalid { field: "port", value: u64::from(port) })?;
        let incarnation = from.u64("incarnation")?;
        Ok(Self { id: NodeId(id), address: SocketAddr::new(ip, port), incarnation })
    }
}

pub(super) fn read_seats(from: &mut Reader, count: u8) -> Result<Arc<[Seat]>, DecodeError> {
    let mut seats: Vec<Seat> = Vec::with_capacity(usize::from(count.min(32)));
    for _ in 0..count {
        let seat = Seat::read(from)?;
        if seats.iter().any(|other| other.id == seat.id) {
            return Err(invalid("seat", seat.id.0));
        }
        seats.push(seat);
    }
    Ok(seats.into())
}

pub(super) fn invalid(field: &'static str, value: u8) -> DecodeError {
    DecodeError::Invalid { field, value: u64::from(value) }
}

const NOBODY: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::super::{Epochs, Policy, default_code};
    use super::*;
    use crate::types::Slot;

    fn first(nodes: u8) -> Configuration {
        let code = Code::new(2, nodes - 2).unwrap();
        let epoch = Epoch(0);
        let policy = Policy::Craft;
        let rules = EpochConfig { epoch, nodes, policy, code, hybrid_bytes: 0 };
        Configuration::of_ranks(rules.checked().unwrap())
    }

    fn newcomer(id: u8) -> Option<Seat> {
        let address = SocketAddr::from(([10, 0, 0, id], 7000));
        Some(Seat { id: NodeId(id), address, incarnation: 0 })
    }

    fn change(joins: Option<Seat>, leaves: Option<u8>, code: (u8, u8)) -> Change {
        let code = Code::new(code.0, code.1).unwrap();
        Change { joins, leaves: leaves.map(NodeId), code }
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_one_replaced() {
        let begun = first(3).with_change(change(newcomer(7), Some(1), (2, 1))).unwrap();
        assert!(!begun.is_member(7) && begun.is_member(1));
        assert_eq!(begun.place(7), Some(1));
        let after = begun.changed(99);
        assert_eq!((after.place(0), after.place(7), after.place(2)), (Some(0), Some(1), Some(2)));
        assert_eq!(after.members[1].incarnation, 99);
        assert!(after.is_retired(1) && after.rules.epoch == Epoch(2));
        let again = after.with_change(change(newcomer(1), Some(0), (2, 1)));
        assert_eq!(again, Err(ChangeError::IdUsed), "ids are used once");
        assert_eq!(
            begun.with_change(change(newcomer(8), None, (2, 2))),
            Err(ChangeError::UnderWay)
        );
    }

    #[test]
    fn homes_of_old_values_stay_when_members_move_up() {
        let mut epochs = Epochs::new(first(4));
        let begun = first(4).with_change(change(None, Some(0), (2, 1))).unwrap();
        let after = begun.changed(0);
        assert!(epochs.enter(Slot(5), begun) && epochs.enter(Slot(6), after.clone()));
        assert!(!epochs.enter(Slot(7), first(4)));
        assert_eq!((epochs.home(Epoch(1), 3), epochs.home(Epoch(2), 3)), (3, 2));
        let begun = after.with_change(change(newcomer(9), None, (2, 2))).unwrap();
        assert!(epochs.enter(Slot(8), begun.clone()));
        assert_eq!(epochs.home(Epoch(0), 9), 3, "the newcomer's place");
        let grown = begun.changed(1);
        assert!(epochs.enter(Slot(9), grown.clone()));
        assert_eq!(epochs.home(Epoch(0), 9), 3);
        let begun = grown.with_change(change(None, Some(1), (2, 1))).unwrap();
        let shrunk = begun.changed(0);
        assert!(epochs.enter(Slot(10), begun) && epochs.enter(Slot(11), shrunk.clone()));
        assert_eq!(shrunk.place(9), Some(2), "it moved up");
        assert_eq!(epochs.first_place(9), Some(3), "old values stay where they are");
    }

    #[test]
    fn configurations_and_epochs_survive_the_log() {
        let begun = first(3).with_change(change(newcomer(7), Some(1), (2, 1))).unwrap();
        let v6 = Some(Seat { address: "[::1]:80".parse().unwrap(), ..newcomer(8).unwrap() });
        let grown = first(3).with_change(change(v6, None, (2, 2))).unwrap();
        let mut epochs = Epochs::new(first(3));
        epochs.note(Epoch(0), Code::new(2, 1).unwrap());
        epochs.enter(Slot(3), begun.clone());
        epochs.enter(Slot(4), begun.changed(4));
        for configuration in [first(3), begun, grown.cancelled(), grown.changed(5), grown] {
            let header = configuration.encode();
            assert_eq!(Configuration::decode(header.clone()), Ok(configuration));
            for cut in 0..header.len() {
                assert!(Configuration::decode(header.slice(..cut)).is_err(), "cut at {cut}");
            }
        }
        let mut to = Writer::new();
        epochs.write(&mut to);
        let bytes: Bytes = to.finish().concat().into();
        assert_eq!(Epochs::read(&mut Reader::new(bytes)), Ok(epochs));
    }

    #[test]
    fn a_change_to_impossible_rules_is_refused() {
        let begun = first(4).with_change(change(None, Some(0), (3, 0)));
        assert!(matches!(begun, Err(ChangeError::Unsafe(_))), "{begun:?}");
        let begun = first(4).with_change(change(newcomer(2), None, (2, 3)));
        assert_eq!(begun, Err(ChangeError::IdUsed));
        assert_eq!(default_code(Policy::Craft, 3, 4).unwrap(), Code::new(2, 2).unwrap());
        assert_eq!(default_code(Policy::Crossword, 2, 5).unwrap(), Code::new(3, 2).unwrap());
    }
}
