-- One row: the counters that every write may move.
CREATE TABLE log_state (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    epoch BIGINT NOT NULL,
    head BIGINT NOT NULL DEFAULT 0,
    compacted BIGINT NOT NULL DEFAULT 0,
    event_count BIGINT NOT NULL DEFAULT 0,
    event_bytes BIGINT NOT NULL DEFAULT 0,
    last_record_time BIGINT NOT NULL DEFAULT 0,
    last_instance BIGINT NOT NULL DEFAULT 0,
    probe BIGINT NOT NULL DEFAULT 0
);

-- Outlives its instance, so that the tombstone's number is the next one.
CREATE TABLE event_sequence (
    instance BIGINT PRIMARY KEY,
    last BIGINT NOT NULL
);

-- Times are microseconds since 1970. `short` is 1 for events of short retention.
CREATE TABLE event (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    instance BIGINT NOT NULL,
    instance_sequence BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    short SMALLINT NOT NULL,
    record_time BIGINT NOT NULL,
    body BLOB NOT NULL
);

-- Readers of one instance seek by this. The sequence needs no index: the one writer counts it.
CREATE INDEX event_instance ON event (instance, position);

CREATE INDEX event_short ON event (position) WHERE short = 1;

CREATE TABLE instance (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    network INTEGER NOT NULL,
    state INTEGER NOT NULL,
    state_reason TEXT NOT NULL,
    state_time BIGINT NOT NULL,
    banned_until BIGINT,
    phone_number TEXT NOT NULL,
    lid TEXT NOT NULL,
    push_name TEXT NOT NULL,
    show_online SMALLINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);

CREATE TABLE message (
    instance BIGINT NOT NULL,
    message_id TEXT NOT NULL,
    chat TEXT NOT NULL,
    sender TEXT NOT NULL,
    from_me SMALLINT NOT NULL,
    outbound SMALLINT NOT NULL,
    time BIGINT NOT NULL,
    status INTEGER NOT NULL,
    previous_status INTEGER NOT NULL,
    status_reason TEXT NOT NULL,
    body BLOB NOT NULL,
    raw BLOB NOT NULL,
    PRIMARY KEY (instance, message_id, chat, sender)
);

CREATE INDEX message_outbound ON message (instance, status, time) WHERE outbound = 1;

-- `subject` is the id of the message or the instance that the request made.
CREATE TABLE request (
    api_key TEXT NOT NULL,
    method TEXT NOT NULL,
    request_id TEXT NOT NULL,
    body_digest BLOB NOT NULL,
    time BIGINT NOT NULL,
    instance BIGINT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (api_key, method, request_id)
);

CREATE INDEX request_time ON request (time);

-- `instances` are numbers parted by commas. They stay when an instance goes: a key that is bound to
-- nothing else must not become one that is bound to nothing at all.
CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    secret_digest BLOB NOT NULL,
    display_name TEXT NOT NULL,
    permissions TEXT NOT NULL,
    instances TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    revoke_time BIGINT
);

-- Times of a device's rows are unix seconds, as WhatsApp's are.
CREATE TABLE device_record (
    instance BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    time BIGINT NOT NULL,
    PRIMARY KEY (instance, kind, key)
);

CREATE TABLE device_lid (
    instance BIGINT NOT NULL,
    lid TEXT NOT NULL,
    phone_number TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    learning_source TEXT NOT NULL,
    PRIMARY KEY (instance, lid)
);

CREATE INDEX device_lid_number ON device_lid (instance, phone_number, updated_at);

CREATE TABLE device_sender_key_holder (
    instance BIGINT NOT NULL,
    group_jid TEXT NOT NULL,
    device_jid TEXT NOT NULL,
    has_key SMALLINT NOT NULL,
    PRIMARY KEY (instance, group_jid, device_jid)
);

CREATE TABLE device_trust_token (
    instance BIGINT NOT NULL,
    jid TEXT NOT NULL,
    token BLOB NOT NULL,
    token_time BIGINT NOT NULL,
    sender_time BIGINT,
    PRIMARY KEY (instance, jid)
);

CREATE TABLE device_message_secret (
    instance BIGINT NOT NULL,
    chat TEXT NOT NULL,
    sender TEXT NOT NULL,
    message_id TEXT NOT NULL,
    secret BLOB NOT NULL,
    expires_at BIGINT NOT NULL,
    message_time BIGINT NOT NULL,
    PRIMARY KEY (instance, chat, sender, message_id)
);
