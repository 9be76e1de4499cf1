//! Setup: chooses the brokers of a process by its configuration.

use super::amqp;
use super::demo::Demo;
use super::redis::{self, Redis};
use super::{Broker, Brokers, Embedded, Topics};
use crate::net::Net;

/// Where messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// Redis servers that are tried in turn, never empty.
    Redis(Vec<redis::Endpoint>),
    /// No broker: what is published goes to the subscribers of this process.
    None,
    /// The embedded feeder.
    Demo {
        /// Score updates per second.
        per_second: u32,
        /// The seed of the random choices.
        seed: u64,
    },
}

/// The brokers as configured.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where messages come from.
    pub source: SourceConfig,
    /// Redis servers for commands and publications, if not those that messages come from.
    pub redis_publishers: Vec<redis::Endpoint>,
    /// An AMQP broker for channels, if there is one.
    pub amqp: Option<amqp::Endpoint>,
    /// What is subscribed to over every connection.
    pub topics: Topics,
    /// Our name at a broker.
    pub client_name: String,
    /// The seed of the pauses between attempts to connect.
    pub seed: u64,
    /// The wall clock at [`Time::ZERO`](crate::time::Time::ZERO), in Unix milliseconds.
    pub unix_origin_ms: u64,
}

impl SourceConfig {
    /// Whether all messages are made up.
    pub fn is_made_up(&self) -> bool {
        matches!(self, SourceConfig::Demo { .. })
    }
}

impl Setup {
    /// The lines for the log at the start. `can_publish` is whether clients may publish.
    pub fn greeting(&self, can_publish: bool) -> Vec<String> {
        let mut lines = vec![match &self.source {
            SourceConfig::Demo { per_second, .. } => {
                format!("demo: {per_second} random updates per second while there are clients")
            }
            SourceConfig::None if can_publish => {
                "broker: embedded, fed by POST /publish".to_owned()
            }
            SourceConfig::None => {
                "broker: embedded; set PUBLISH_KEY to feed it by POST /publish".to_owned()
            }
            SourceConfig::Redis(endpoints) => {
                let names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
                format!("redis: connecting to {}", names.join(", "))
            }
        }];
        if !self.redis_publishers.is_empty() {
            let names: Vec<String> = self
                .redis_publishers
                .iter()
                .map(ToString::to_string)
                .collect();
            lines.push(format!("redis: publishing at {}", names.join(", ")));
        }
        if let Some(endpoint) = &self.amqp {
            lines.push(format!("amqp: connecting to {endpoint}, for channels"));
        }
        lines
    }
}

/// The brokers of this setup, which connect at once. An AMQP broker serves the channels, and the source the rest.
pub fn open<N: Net + 'static>(setup: Setup) -> Brokers<N> {
    let (topics, name) = (&setup.topics, &setup.client_name);
    let source: Box<dyn Broker<N>> = match setup.source {
        SourceConfig::Demo { per_second, seed } => {
            Box::new(Demo::new(per_second, seed, setup.unix_origin_ms))
        }
        SourceConfig::None => Box::new(Embedded),
        SourceConfig::Redis(endpoints) => {
            let redis = Redis::new(endpoints, topics.clone(), name, setup.seed);
            Box::new(redis.publishing_at(setup.redis_publishers, name, setup.seed))
        }
    };
    #[cfg(feature = "amqp")]
    if let Some(endpoint) = setup.amqp {
        let channels = amqp::Amqp::new(endpoint, name, setup.seed);
        return Brokers::split(source, Box::new(channels), topics);
    }
    Brokers::one(source)
}
