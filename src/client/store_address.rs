//! Which store the bench drives: `distkv`, `memory`, `redis://host:port`, `etcd://host:port,…`.

use crate::bench::{MemoryTarget, Target};
use crate::experiment::CancelFlag;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// A store to be measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreAddress {
    /// A cluster of ours, as its cluster file has it.
    #[default]
    Distkv,
    /// A map in this process.
    Memory,
    /// A server that speaks RESP.
    Redis {
        /// `redis://host:port`, as the `redis` crate takes it.
        url: String,
    },
    /// An etcd v3 cluster.
    Etcd {
        /// `host:port` of each member.
        endpoints: Vec<String>,
    },
}

/// A store that cannot be driven.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreAddressError {
    /// Not an address.
    #[error("'{text}': write distkv, memory, redis://HOST:PORT or etcd://HOST:PORT,HOST:PORT,…")]
    Form {
        /// What was written.
        text: String,
    },
    /// Support was left out of this program.
    #[error("this distkv was built without {feature}: build it with --features {feature}")]
    NotBuilt {
        /// The cargo feature.
        feature: &'static str,
    },
    /// Nobody answers, or wrongly.
    #[error("{store}: {reason}; check the address and that it runs")]
    Unreachable {
        /// The store.
        store: String,
        /// Why.
        reason: String,
    },
}

/// How to drive a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Sessions.
    pub clients: usize,
    /// An operation without an answer by then is a timeout.
    pub timeout: Duration,
    /// Will there be scans? Some stores keep an index for them.
    pub has_scans: bool,
    /// Breaks phases off once set.
    pub cancel: Option<CancelFlag>,
}

impl StoreAddress {
    /// A target for this store, which is asked for a sign of life first. Not for `Distkv`, which
    /// takes a cluster file: see [`super::ClusterTarget`].
    ///
    /// # Errors
    /// [`StoreAddressError`] when it does not answer, or support for it is not built in.
    pub fn open(&self, options: &StoreOptions) -> Result<Box<dyn Target>, StoreAddressError> {
        match self {
            Self::Distkv => Err(StoreAddressError::Unreachable {
                store: self.to_string(),
                reason: "a cluster is opened by its cluster file".to_owned(),
            }),
            Self::Memory => Ok(Box::new(MemoryTarget::new())),
            Self::Redis { url } => self.open_redis(url, options),
            Self::Etcd { endpoints } => self.open_etcd(endpoints, options),
        }
    }

    #[cfg(any(feature = "redis", feature = "etcd"))]
    fn unreachable(&self, reason: impl fmt::Display) -> StoreAddressError {
        StoreAddressError::Unreachable { store: self.to_string(), reason: reason.to_string() }
    }

    #[cfg(feature = "redis")]
    fn open_redis(
        &self,
        url: &str,
        options: &StoreOptions,
    ) -> Result<Box<dyn Target>, StoreAddressError> {
        use super::redis_store::RedisStore;
        use super::remote::{RemoteTarget, runtime};
        let runtime = runtime().map_err(|error| self.unreachable(error))?;
        let store = RedisStore::new(url, options.clients, options.has_scans)
            .map_err(|error| self.unreachable(error))?;
        runtime.block_on(store.ping()).map_err(|error| self.unreachable(error))?;
        let target = RemoteTarget::new(store, options.timeout, runtime);
        let mut target = target.map_err(|error| self.unreachable(error))?;
        target.set_cancel(options.cancel.clone());
        Ok(Box::new(target))
    }

    #[cfg(not(feature = "redis"))]
    fn open_redis(&self, _: &str, _: &StoreOptions) -> Result<Box<dyn Target>, StoreAddressError> {
        Err(StoreAddressError::NotBuilt { feature: "redis" })
    }

    #[cfg(feature = "etcd")]
    fn open_etcd(
        &self,
        endpoints: &[String],
        options: &StoreOptions,
    ) -> Result<Box<dyn Target>, StoreAddressError> {
        use super::etcd_store::EtcdStore;
        use super::remote::{RemoteTarget, runtime};
        let runtime = runtime().map_err(|error| self.unreachable(error))?;
        let store = {
            let _guard = runtime.enter();
            EtcdStore::new(endpoints).map_err(|error| self.unreachable(error))?
        };
        let ping = async { tokio::time::timeout(PING_TIMEOUT, store.ping()).await };
        match runtime.block_on(ping) {
            Ok(Ok(())) => {}
            Ok(Err(status)) => return Err(self.unreachable(status.message())),
            Err(_) => return Err(self.unreachable("no answer")),
        }
        let target = RemoteTarget::new(store, options.timeout, runtime);
        let mut target = target.map_err(|error| self.unreachable(error))?;
        target.set_cancel(options.cancel.clone());
        Ok(Box::new(target))
    }

    #[cfg(not(feature = "etcd"))]
    fn open_etcd(
        &self,
        _: &[String],
        _: &StoreOptions,
    ) -> Result<Box<dyn Target>, StoreAddressError> {
        Err(StoreAddressError::NotBuilt { feature: "etcd" })
    }
}

impl FromStr for StoreAddress {
    type Err = StoreAddressError;

    fn from_str(text: &str) -> Result<Self, StoreAddressError> {
        let refused = || StoreAddressError::Form { text: text.to_owned() };
        let has_port = |endpoint: &str| {
            endpoint.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        match text {
            "distkv" => return Ok(Self::Distkv),
            "memory" => return Ok(Self::Memory),
            _ => {}
        }
        if let Some(list) = text.strip_prefix("etcd://") {
            let endpoints: Vec<String> = list.split(',').map(|one| one.trim().to_owned()).collect();
            let all = endpoints.iter().all(|endpoint| has_port(endpoint));
            return if all { Ok(Self::Etcd { endpoints }) } else { Err(refused()) };
        }
        let server = text.strip_prefix("redis://").ok_or_else(refused)?;
        let server = server.split_once('/').map_or(server, |(server, _)| server);
        if has_port(server) { Ok(Self::Redis { url: text.to_owned() }) } else { Err(refused()) }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distkv => f.write_str("distkv"),
            Self::Memory => f.write_str("memory"),
            Self::Redis { url } => f.write_str(url),
            Self::Etcd { endpoints } => write!(f, "etcd://{}", endpoints.join(",")),
        }
    }
}

#[cfg(feature = "etcd")]
const PING_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_text() {
        for text in
            ["distkv", "memory", "redis://127.0.0.1:6379", "redis://h:1/2", "etcd://a:1,b:2"]
        {
            assert_eq!(text.parse::<StoreAddress>().unwrap().to_string(), text);
        }
        for bad in ["", "redis", "redis://", "redis://h", "etcd://a:1,", "etcd://a:x", "http://a:1"]
        {
            assert!(bad.parse::<StoreAddress>().unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn nobody_at_the_address_is_said_at_once() {
        let options = StoreOptions {
            clients: 1,
            timeout: Duration::from_secs(1),
            has_scans: false,
            cancel: None,
        };
        // Port 1 of loopback: nothing listens there.
        for (text, is_built) in [
            ("redis://127.0.0.1:1", cfg!(feature = "redis")),
            ("etcd://127.0.0.1:1", cfg!(feature = "etcd")),
        ] {
            let error = text.parse::<StoreAddress>().unwrap().open(&options).err().unwrap();
            let expected = if is_built { text } else { "--features" };
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
