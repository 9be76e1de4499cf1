//! Options: valid flags and variables, and the errors for invalid ones.

use std::process::{Command, Output};

use crate::support::ServerOptions;
use crate::support::server::PROGRAM;

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear();
    command.envs(variables.iter().copied());
    command.output().expect("an end")
}

/// The one line with which a wrong use ends.
#[track_caller]
fn misuse(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(arguments, variables);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(2),
        "{arguments:?} {variables:?}: {text}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?} {variables:?}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn help_names_every_option() {
    for flag in ["--help", "-h"] {
        let output = run(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8_lossy(&output.stdout);
        let variables = [
            "PORT",
            "LISTEN",
            "REUSE_PORT",
            "REDIS_URL",
            "BOXEN_REDIS_URL",
            "AMQP_URL",
            "AMQP_EXCHANGE",
            "AMQP_EXCHANGE_TYPE",
            "DEMO",
            "DEMO_RATE",
            "DEMO_SEED",
            "ENABLE_RAW_STREAM",
            "ENABLE_KIOSK_INTERACTION_STREAM",
            "CHANNELS",
            "CHANNELS_PATTERNS",
            "PUBLISH_KEY",
            "REPLAY_SEC",
            "CHANNEL_STATS_MAX",
            "SSE_IDS",
            "SSE_FORCE_REFRESH",
            "SSE_SCORE_RETRY_MS",
            "SSE_DETAIL_RETRY_MS",
            "SSE_RECONNECT_MS",
            "SSE_RECONNECT",
            "KEEPALIVE_SEC",
            "LOG_BYTES_MAX",
            "ENABLE_DEMO_PAGE",
            "GRAPHITE_URL",
            "HOSTEDGRAPHITE_APIKEY",
            "GRAPHITE_PREFIX",
            "ADMIN_TOKEN",
            "ADMIN_LISTEN",
            "LOG_LEVEL",
            "DYNO",
            "STREAMER_ENV",
            "RACK_ENV",
            "NODE_ENV",
            "GO_ENV",
            "VERBOSE",
        ];
        for variable in variables {
            assert!(text.contains(variable), "{variable} is missing in {text}");
        }
        for flag in ["--port", "--redis-url", "--demo", "--listen", "healthcheck"] {
            assert!(text.contains(flag), "{flag} is missing in {text}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    for flag in ["--version", "-V"] {
        let output = run(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0));
        let expected = concat!("emojitrack-streamer ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[test]
fn a_wrong_flag_is_named() {
    let table: &[(&[&str], &str)] = &[
        (&["--prot", "80"], "--prot"),
        (&["--port"], "--port"),
        (&["--port", "eighty"], "--port"),
        (&["--port=65536"], "--port"),
        // It may be a password, and is not shown.
        (&["stray"], "argument 1 (not shown"),
        (&["--nonsense"], "argument 1 (not shown"),
        (&["--demo", "--nonsense=1"], "argument 2 (not shown"),
        (&["-x"], "argument 1 (not shown"),
        (&["--demo=perhaps"], "--demo"),
        (
            &["--demo", "--redis-url", "redis://localhost"],
            "--redis-url",
        ),
    ];
    for (arguments, named) in table {
        let text = misuse(arguments, &[]);
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_variable_and_what_is_allowed() {
    let table = [
        ("PORT", "eighty", "65535"),
        ("PORT", "65536", "65535"),
        ("PORT", "-1", "65535"),
        ("LISTEN", "example.com", "IP address"),
        ("REUSE_PORT", "perhaps", "true"),
        ("REDIS_URL", "localhost", "redis://"),
        ("REDIS_URL", "http://localhost", "redis://"),
        ("BOXEN_REDIS_URL", "localhost", "redis://"),
        ("AMQP_EXCHANGE_TYPE", "headers", "direct, fanout, topic"),
        ("DEMO", "maybe", "true"),
        ("DEMO_RATE", "0", "100000"),
        ("DEMO_SEED", "x", "number"),
        ("ENABLE_RAW_STREAM", "2", "true"),
        ("ENABLE_KIOSK_INTERACTION_STREAM", "on", "true"),
        ("SSE_FORCE_REFRESH", "o", "true"),
        ("SSE_IDS", "all", "true"),
        ("SSE_SCORE_RETRY_MS", "soon", "number"),
        ("SSE_DETAIL_RETRY_MS", "1.5", "number"),
        ("SSE_RECONNECT_MS", "-1", "number"),
        ("SSE_RECONNECT", "1s", "number"),
        ("KEEPALIVE_SEC", "0", "50"),
        ("KEEPALIVE_SEC", "51", "50"),
        ("LOG_BYTES_MAX", "1", "262144"),
        ("LOG_BYTES_MAX", "4 GB", "bytes"),
        ("ENABLE_DEMO_PAGE", "maybe", "true"),
        ("GRAPHITE_URL", "http://localhost", "udp://"),
        ("GRAPHITE_PREFIX", "a b", "letters"),
        ("ADMIN_LISTEN", "127.0.0.1", "add a port"),
        ("LOG_LEVEL", "all", "debug"),
        ("STATUS_CONNECTIONS_MAX", "1251", "1250"),
        ("VERBOSE", "loud", "false"),
    ];
    for (variable, value, allowed) in table {
        let text = misuse(&[], &[(variable, value)]);
        for part in [variable, value, allowed] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
}

#[test]
fn a_refused_redis_url_does_not_show_its_password() {
    for url in [
        "redis://user:secret@",
        "http://:secret@host",
        "redis://:sec#ret@host",
    ] {
        let text = misuse(&[], &[("REDIS_URL", url)]);
        assert!(!text.contains("sec"), "{text}");
        assert!(text.contains("REDIS_URL"), "{text}");
    }
}

#[test]
fn no_mistake_shows_a_secret() {
    #[rustfmt::skip]
    let arguments: [&[&str]; 19] = [
        &["sesame"],
        &["healthcheck", "sesame"],
        &["--", "sesame"],
        &["-sesame"],
        &["--sesame"],
        &["--publish-key", "x", "sesame"],
        &["--publish-key=x", "sesame"],
        &["--publish-key", "sesame", "stray"],
        &["--publish-kye=sesame"],
        &["--publish-kye", "sesame"],
        &["--publish-keysesame"],
        &["--publish-key:sesame"],
        &["--admin-token=sesame\u{e9}"],
        &["--admin-token", "se same"],
        &["--hostedgraphite-apikey", "sesame/sesame"],
        &["--redis-url=redis://:sesame@host:port"],
        &["--redis-url=redis://sesame@host"],
        &["--redis-url=rediss://:sesame@host"],
        &["--graphite-url=udp://sesame@host"],
    ];
    for arguments in arguments {
        let text = misuse(arguments, &[]);
        assert!(!text.contains("same"), "{arguments:?}: {text}");
    }
    let variables = [
        ("PUBLISH_KEY", "sesame sesame"),
        ("ADMIN_TOKEN", "sesame\t"),
        ("HOSTEDGRAPHITE_APIKEY", "sesame sesame"),
        ("REDIS_URL", "redis://user:sesame@host/x"),
        ("REDIS_URL", "redis://host,redis://:sesame@"),
        ("REDIS_URL", "//:sesame@host"),
        ("BOXEN_REDIS_URL", "redis://:sesame#@host"),
        ("AMQP_URL", "amqp://user:sesame@host:port"),
        ("AMQP_URL", "amqps://user:sesame@host"),
        ("AMQP_URL", "sesame@host"),
        ("GRAPHITE_URL", "http://user:sesame@host"),
    ];
    for variable in variables {
        let text = misuse(&[], &[variable]);
        assert!(!text.contains("same"), "{variable:?}: {text}");
    }
}

#[test]
fn an_amqp_broker_is_refused_where_the_build_has_no_amqp() {
    if cfg!(feature = "amqp") {
        return;
    }
    let text = misuse(&[], &[("AMQP_URL", "amqp://user:hush@host")]);
    let expected = "emojitrack-streamer: AMQP_URL: this build has no AMQP support: build with --features amqp\n";
    assert_eq!(text, expected);
}

#[test]
fn a_refused_secret_is_not_shown() {
    for variable in ["ADMIN_TOKEN", "HOSTEDGRAPHITE_APIKEY"] {
        let text = misuse(&[], &[(variable, "my hush")]);
        assert!(!text.contains("hush"), "{text}");
        assert!(
            text.contains(variable) && text.contains("letters"),
            "{text}"
        );
    }
}

#[test]
fn a_path_of_metrics_that_is_too_long_is_refused() {
    let long = "a".repeat(400);
    for variable in ["DYNO", "GRAPHITE_PREFIX", "HOSTEDGRAPHITE_APIKEY"] {
        let variables = [("GRAPHITE_URL", "udp://127.0.0.1:9"), (variable, &long)];
        let text = misuse(&["healthcheck"], &variables);
        for part in ["DYNO", "GRAPHITE_PREFIX", "320 bytes"] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        assert!(!text.contains("aaa"), "{text}");
    }
}

#[test]
fn flags_win_over_variables_and_nothing_is_taken_from_empty_ones() {
    let server = ServerOptions::demo()
        .variable("PORT", "nonsense")
        .variable("DYNO", "variable")
        .variable("STREAMER_ENV", "")
        .variable("NODE_ENV", "staging")
        .argument("--dyno=flag")
        .start();
    assert_eq!(server.status()["node"], "rust-staging-flag");
}

#[test]
fn a_boolean_may_be_written_in_many_ways() {
    for (value, is_on) in [
        ("T", true),
        ("yes", true),
        ("1", true),
        ("N", false),
        ("0", false),
    ] {
        let server = ServerOptions::demo()
            .variable("ENABLE_RAW_STREAM", value)
            .start();
        let expected = if is_on { 200 } else { 404 };
        let reply = server.ask_for_head("/subscribe/raw");
        assert_eq!(reply.status(), expected, "{value}");
    }
}

#[test]
fn the_start_says_where_it_listens_and_what_to_try() {
    let server = ServerOptions::demo().start();
    let url = format!("http://{}", server.address());
    server.wait_for_log(&format!("curl -N {url}/subscribe/eps"));
    server.wait_for_log(&format!("{url}/"));
}

#[test]
fn verbose_logs_connects_and_disconnects() {
    let server = ServerOptions::demo().variable("VERBOSE", "y").start();
    let subscriber = server.subscribe("/subscribe/details/1F4C2");
    server.wait_for_log("connect /subscribe/details/1F4C2 from 127.0.0.1");
    drop(subscriber);
    server.wait_for_log("disconnect /subscribe/details/1F4C2 from 127.0.0.1");
    let quiet = ServerOptions::demo().start();
    drop(quiet.subscribe("/subscribe/eps"));
    quiet.wait_for_connections(0);
    assert_eq!(quiet.count_log("connect /"), 0);
}
