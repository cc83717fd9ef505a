use std::{fs, time::Duration};

use super::*;

fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let sources = Sources {
        variables,
        ..Sources::default()
    };
    Config::load(sources, Role::Gateway)
}

fn refusal(variables: &[(&str, &str)]) -> String {
    match with(variables) {
        Ok(_) => panic!("{variables:?} was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_defaults_are_what_the_documentation_says() {
    let config = with(&[]).expect("defaults");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.storage.data_dir, PathBuf::from("wagate-data"));
    assert_eq!(config.events.retention_age, Duration::from_secs(7 * 86_400));
    assert_eq!(config.events.retention_bytes, 2 << 30);
    assert_eq!(config.sessions.max_handshakes, 20);
    assert_eq!(config.sessions.default_network, Network::Whatsapp);
    assert_eq!(config.sandbox.external().expect("none is set"), None);
    assert_eq!(config.log.format, LogFormat::Text);
    assert!(config.server.tls().expect("none is set").is_none());
}

#[test]
fn arguments_go_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wagate.toml");
    fs::write(
        &file,
        "[server]\nlisten = \"127.0.0.1:1\"\n[storage]\ndata_dir = \"b\"\n[sessions]\nmax_handshakes = 3\n",
    )
    .expect("written");
    let sources = Sources {
        file: Some(file),
        variables: BTreeMap::from([
            ("WAGATE_SERVER__LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
            ("WAGATE_STORAGE__DATA_DIR".to_owned(), "c".to_owned()),
        ]),
        presets: vec![("storage.data_dir", "a".to_owned())],
        arguments: vec![("storage.data_dir", "d".to_owned())],
    };
    let config = Config::load(sources, Role::Gateway).expect("good");
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.storage.data_dir, PathBuf::from("d"));
    assert_eq!(config.sessions.max_handshakes, 3);
}

#[test]
fn numbers_and_switches_can_come_from_the_environment() {
    let config = with(&[
        ("WAGATE_SERVER__LISTEN", "0.0.0.0:50051"),
        ("WAGATE_SERVER__ALLOW_PLAINTEXT_REMOTE", "true"),
        ("WAGATE_SESSIONS__MAX_HANDSHAKES", "7"),
        ("WAGATE_EVENTS__RETENTION_AGE", "36h"),
    ])
    .expect("good");
    assert!(config.server.allow_plaintext_remote);
    assert_eq!(config.sessions.max_handshakes, 7);
    assert_eq!(config.events.retention_age, Duration::from_secs(36 * 3_600));
}

#[test]
fn what_does_not_exist_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wagate.toml");
    fs::write(&file, "[server]\nlisten_on = \"127.0.0.1:1\"\n").expect("written");
    let load = |file| {
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        Config::load(sources, Role::Gateway)
            .expect_err("refused")
            .to_string()
    };
    let refused = load(file);
    assert!(refused.contains("listen_on"), "{refused}");
    assert!(refused.contains("allow_plaintext_remote"), "{refused}");
    let refused = load(folder.path().join("missing.toml"));
    assert!(refused.contains("missing.toml"), "{refused}");

    let refused = refusal(&[("WAGATE_SERVER__PORT", "1")]);
    assert!(refused.contains("port"), "{refused}");
    let refused = refusal(&[("WAGATE_SEVER__LISTEN", "127.0.0.1:1")]);
    assert!(refused.contains("sever"), "{refused}");
}

#[test]
fn a_variable_that_lacks_an_underscore_is_refused_and_strangers_are_not() {
    let refused = refusal(&[("WAGATE_SERVER_LISTEN", "127.0.0.1:1")]);
    assert!(refused.contains("WAGATE_SERVER__LISTEN"), "{refused}");
    with(&[
        ("WAGATE_API_KEY", "x"),
        ("WAGATE_ENDPOINT", "x"),
        ("WAGATE_SERVICE_HOST", "10.0.0.1"),
    ])
    .expect("left alone");
}

#[test]
fn an_address_for_all_the_world_needs_tls_or_a_word() {
    let remote = ("WAGATE_SERVER__LISTEN", "0.0.0.0:50051");
    assert!(refusal(&[remote]).contains("allow_plaintext_remote"));
    with(&[remote, ("WAGATE_SERVER__ALLOW_PLAINTEXT_REMOTE", "true")]).expect("said so");
    with(&[("WAGATE_SERVER__LISTEN", "[::1]:50051")]).expect("loopback");

    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let certificate = write("c.pem", "-----BEGIN CERTIFICATE-----\n");
    let key = write("k.pem", "-----BEGIN PRIVATE KEY-----\n");
    let certificate = ("WAGATE_SERVER__TLS_CERTIFICATE", certificate.as_str());
    with(&[remote, certificate, ("WAGATE_SERVER__TLS_KEY", &key)]).expect("both");
    assert!(refusal(&[remote, certificate]).contains("go together"));
    assert!(refusal(&[certificate, ("WAGATE_SERVER__TLS_KEY", certificate.1)]).contains("tls_key"));
    assert!(refusal(&[certificate, ("WAGATE_SERVER__TLS_KEY", "/none")]).contains("/none"));
    let authority = ("WAGATE_SERVER__TLS_CLIENT_CA", certificate.1);
    let both = [certificate, ("WAGATE_SERVER__TLS_KEY", &key), authority];
    let pair = with(&both).expect("mTLS").server.tls().expect("checked");
    assert!(pair.is_some_and(|pair| pair.client_ca.is_some()));
    assert!(refusal(&[authority]).contains("tls_certificate"));
}

#[test]
fn a_network_for_all_the_world_needs_a_word() {
    let load = |role, allow: &str| {
        let mut sources = Sources::default();
        sources.preset("sandbox.network_listen", "0.0.0.0:50052");
        sources.preset("server.allow_plaintext_remote", allow);
        Config::load(sources, role).map_err(|error| error.to_string())
    };
    let refused = load(Role::Sandbox, "false").expect_err("refused");
    assert!(refused.contains("network_listen"), "{refused}");
    assert!(refused.contains("allow_plaintext_remote"), "{refused}");
    load(Role::Sandbox, "true").expect("said so");
    // `wagate serve` opens no network.
    load(Role::Gateway, "false").expect("not used");
}

#[test]
fn an_external_sandbox_is_known_by_its_key() {
    let url = ("WAGATE_SANDBOX__URL", "ws://127.0.0.1:50052/ws/chat");
    let hex = "0f".repeat(32);
    let key = ("WAGATE_SANDBOX__STATIC_KEY", hex.as_str());
    let sandbox = with(&[url, key]).expect("both").sandbox;
    assert_eq!(
        sandbox.external().expect("checked"),
        Some(ExternalSandbox {
            url: url.1.to_owned(),
            static_key: [15; 32]
        })
    );
    assert!(refusal(&[url]).contains("go together"));
    assert!(refusal(&[url, ("WAGATE_SANDBOX__STATIC_KEY", "0f")]).contains("64"));
    assert!(refusal(&[key, ("WAGATE_SANDBOX__URL", "http://x")]).contains("ws://"));

    let network = ("WAGATE_SESSIONS__DEFAULT_NETWORK", "sandbox");
    assert!(refusal(&[network]).contains("static_key"));
    with(&[network, url, key]).expect("has a home");
}

#[test]
fn wild_values_are_refused_by_name() {
    for (name, value, word) in [
        ("WAGATE_SERVER__LISTEN", "localhost", "server.listen"),
        ("WAGATE_SERVER__OPENING_TIMEOUT", "0s", "opening_timeout"),
        ("WAGATE_SERVER__CONNECTIONS", "0", "connections"),
        ("WAGATE_SERVER__CALLS_BURST", "0", "calls_burst"),
        ("WAGATE_STORAGE__DATA_DIR", "", "data_dir"),
        ("WAGATE_STORAGE__DATA_DIR", "/dev/null", "not a folder"),
        ("WAGATE_EVENTS__RETENTION_AGE", "7", "retention_age"),
        ("WAGATE_EVENTS__RETENTION_AGE", "1s", "retention_age"),
        ("WAGATE_EVENTS__RETENTION_BYTES", "1B", "retention_bytes"),
        ("WAGATE_EVENTS__STREAMS_PER_KEY", "0", "streams_per_key"),
        (
            "WAGATE_EVENTS__SLOW_CONSUMER_TIMEOUT",
            "1d",
            "slow_consumer_timeout",
        ),
        ("WAGATE_SESSIONS__MAX_HANDSHAKES", "0", "max_handshakes"),
        ("WAGATE_SESSIONS__MAX_HANDSHAKES", "-1", "max_handshakes"),
        (
            "WAGATE_SESSIONS__SHUTDOWN_TIMEOUT",
            "1h",
            "shutdown_timeout",
        ),
        ("WAGATE_SESSIONS__DEFAULT_NETWORK", "moon", "moon"),
        ("WAGATE_LOG__FORMAT", "xml", "xml"),
        ("WAGATE_LOG__FILTER", "wagate=loud", "filter"),
    ] {
        let refused = refusal(&[(name, value)]);
        assert!(refused.contains(word), "{name}={value}: {refused}");
    }
}

#[test]
fn the_sandbox_has_defaults_of_its_own_and_they_give_way() {
    let mut sources = Sources::default();
    sources.preset("storage.data_dir", "own");
    sources.preset("sessions.default_network", "sandbox");
    sources.argument("server.listen", None);
    let config = Config::load(sources, Role::Sandbox).expect("good");
    assert_eq!(config.storage.data_dir, PathBuf::from("own"));
    assert_eq!(config.sessions.default_network, Network::Sandbox);

    let mut sources = Sources::default();
    sources.preset("storage.data_dir", "own");
    let variable = ("WAGATE_STORAGE__DATA_DIR".to_owned(), "else".to_owned());
    sources.variables.extend([variable]);
    let config = Config::load(sources, Role::Sandbox).expect("good");
    assert_eq!(config.storage.data_dir, PathBuf::from("else"));
}
