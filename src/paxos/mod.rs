//! paxos: to come.
