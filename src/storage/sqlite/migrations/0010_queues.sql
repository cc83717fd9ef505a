-- Mailing lists. `state` and the counts are always those of their recipients; `body` is an encoded
-- `wagate.v1.Queue` with what is said and how fast. Times are microseconds since 1970.
CREATE TABLE queue (
    number INTEGER PRIMARY KEY,
    instance BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    state SMALLINT NOT NULL,
    state_reason TEXT NOT NULL,
    held_until BIGINT,
    account TEXT NOT NULL,
    body BLOB NOT NULL,
    waiting BIGINT NOT NULL,
    sending BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    invalid BIGINT NOT NULL,
    duplicate BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    sent_time BIGINT,
    complete_time BIGINT
);

CREATE INDEX queue_instance ON queue (instance, id);

-- `queue` is the number of the list. `person` is who the recipient turned out to be.
CREATE TABLE queue_item (
    queue BIGINT NOT NULL,
    position BIGINT NOT NULL,
    recipient TEXT NOT NULL,
    variables BLOB NOT NULL,
    state SMALLINT NOT NULL,
    message_id TEXT NOT NULL DEFAULT '',
    chat TEXT NOT NULL DEFAULT '',
    person TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    time BIGINT NOT NULL,
    PRIMARY KEY (queue, position)
) WITHOUT ROWID;

CREATE INDEX queue_item_state ON queue_item (queue, state, position);

CREATE INDEX queue_item_person ON queue_item (queue, person) WHERE person <> '';

-- Until when WhatsApp lets an account write only to those who wrote to it.
CREATE TABLE cold_hold (
    instance BIGINT PRIMARY KEY,
    until BIGINT NOT NULL,
    reason TEXT NOT NULL,
    strikes BIGINT NOT NULL
);
