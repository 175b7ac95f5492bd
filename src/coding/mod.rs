//! stub
use crate::types::{Bytes, Code, Shard, ShardSet};
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    #[default]
    RustyErasure,
}
#[derive(Debug)]
pub struct Coder;
#[derive(Debug)]
pub struct CodingError;
impl Coder {
    pub fn new(_: Backend, _: Code) -> Self {
        Coder
    }
    pub fn encode(&mut self, _: &Bytes) -> Vec<Shard> {
        vec![]
    }
    pub fn encode_some(&mut self, _: &Bytes, _: ShardSet) -> Vec<Shard> {
        vec![]
    }
    pub fn decode(&mut self, _: usize, _: &[Shard]) -> Result<Bytes, CodingError> {
        Err(CodingError)
    }
}

impl std::str::FromStr for Backend {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> {
        Ok(Self::RustyErasure)
    }
}
