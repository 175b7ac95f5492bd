//! Paxos over a scripted network and a log in memory: laws of DESIGN 3.2, and small random runs.

mod adaptive;
mod bounds;
mod cluster;
mod decision;
mod elections;
mod findings;
mod laws;
mod membership;
mod model;
mod random;
mod shown;
