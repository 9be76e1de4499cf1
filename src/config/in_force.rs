//! The settings in force: what the options have come to, as one line for the log. It owns how each is shown; it
//! must never show a secret.

use std::fmt;

use super::options::{Key, OPTIONS};
use super::raw::Raw;
use super::{Config, Place, SourceConfig};
use crate::net::Listen;
use crate::proto::glob::Glob;

/// What is shown of an option that is not set, or of a bound that there is not.
const NONE: &str = "none";
/// What is shown of a secret that is set.
const MASK: &str = "***";

/// Every option with its value as it was understood, in the order of the help text, and without secrets.
/// `Display` gives `NAME=value`, divided by spaces.
#[derive(Clone, Debug, Default)]
pub struct InForce(Vec<(&'static str, String)>);

impl InForce {
    /// Takes note of a value that was found out later.
    pub fn set(&mut self, variable: &str, value: impl fmt::Display) {
        let found = self.0.iter_mut().find(|(name, _)| *name == variable);
        if let Some((_, text)) = found {
            *text = value.to_string();
        }
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let is_unclear =
                |letter: char| letter.is_whitespace() || letter.is_control() || letter == '"';
            if value.is_empty() || value.contains(is_unclear) {
                write!(formatter, "{space}{name}={value:?}")?;
            } else {
                write!(formatter, "{space}{name}={value}")?;
            }
        }
        Ok(())
    }
}

impl Raw {
    pub(super) fn in_force(&self, config: &Config, place: &Place) -> InForce {
        let shown = |key| self.shown(key, config, place);
        let pairs = OPTIONS
            .iter()
            .map(|option| (option.variable, shown(option.key)));
        InForce(pairs.collect())
    }

    fn shown(&self, key: Key, config: &Config, place: &Place) -> String {
        let engine = &config.engine;
        match key {
            Key::Port => self.get(key).value.clone(),
            Key::Listen => match &config.listen {
                Listen::Everywhere(_) => "all".to_owned(),
                Listen::Addresses(addresses) => list(addresses),
            },
            Key::ReusePort => config.reuse_port.to_string(),
            Key::RedisUrl | Key::Demo | Key::DemoRate | Key::DemoSeed => {
                shown_source(key, &config.source)
            }
            Key::DemoPage => engine.reports.page_enabled.to_string(),
            Key::RawStream => engine.streams.raw_enabled.to_string(),
            Key::KioskStream => engine.streams.kiosk_enabled.to_string(),
            Key::Channels if engine.channels.patterns.is_empty() => NONE.to_owned(),
            Key::Channels => {
                let texts: Vec<&str> = engine.channels.patterns.iter().map(Glob::text).collect();
                list(&texts)
            }
            Key::ReplaySec => engine.channels.linger.as_secs().to_string(),
            Key::ChannelStatsMax => engine.reports.channel_stats_max.to_string(),
            Key::AmqpUrl => or_none(config.amqp.as_ref()),
            Key::AmqpExchange | Key::AmqpExchangeType => self.get(key).value.clone(),
            Key::ForceRefresh => engine.streams.force_refresh.to_string(),
            Key::ScoreRetryMs => or_none(engine.streams.score.retry_ms),
            Key::DetailRetryMs => or_none(engine.streams.detail.retry_ms),
            Key::ReconnectMs => self.get(key).value.clone(),
            Key::ScoreLifetimeSec => {
                or_none(engine.streams.score.lifetime.map(|span| span.as_secs()))
            }
            Key::DetailLifetimeSec => {
                or_none(engine.streams.detail.lifetime.map(|span| span.as_secs()))
            }
            Key::TrustProxy => engine.admission.trusted_proxies.to_string(),
            Key::ConnectionsMax => bound(engine.admission.connections_max),
            Key::ConnectionsPerIpMax => bound(engine.admission.connections_per_ip_max),
            Key::StatusRowsMax => engine.reports.status_rows_max.to_string(),
            Key::DrainSec => engine.pacing.drain.as_secs().to_string(),
            Key::KeepaliveSec => engine.pacing.keepalive.as_secs().to_string(),
            Key::LogBytesMax => engine.pacing.log_bytes_max.to_string(),
            Key::Dyno => place.name.clone(),
            Key::Environment => self.get(key).value.clone(),
            Key::GraphiteUrl => or_none(config.graphite.as_ref().map(|graphite| &graphite.target)),
            Key::GraphitePrefix => self.get(key).value.clone(),
            Key::HostedGraphite | Key::AdminToken | Key::PublishSecret => {
                match self.get(key).is_default {
                    true => NONE.to_owned(),
                    false => MASK.to_owned(),
                }
            }
            Key::AdminListen if config.admin_listen.is_empty() => NONE.to_owned(),
            Key::AdminListen => list(&config.admin_listen),
            Key::LogLevel => config.log_level.to_string(),
            Key::Verbose => engine.verbose.to_string(),
        }
    }
}

fn shown_source(key: Key, source: &SourceConfig) -> String {
    match (key, source) {
        (Key::RedisUrl, SourceConfig::Redis(endpoints)) => list(endpoints),
        (Key::Demo, _) => matches!(source, SourceConfig::Demo { .. }).to_string(),
        (Key::DemoRate, SourceConfig::Demo { per_second, .. }) => per_second.to_string(),
        (Key::DemoSeed, SourceConfig::Demo { seed, .. }) => seed.to_string(),
        _ => NONE.to_owned(),
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(",")
}

fn or_none<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// A bound that is only there when it is set.
fn bound(max: usize) -> String {
    or_none(Some(max).filter(|max| *max < usize::MAX))
}
