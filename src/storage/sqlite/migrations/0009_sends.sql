-- Sends that wait: no messages yet. `body` says what is to be sent. Times are microseconds since 1970. `recipient`
-- is one text for each recipient; its sends leave by (due_time, number). A `scheduled` one stands in nobody's
-- way until it is due.
CREATE TABLE send (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    instance BIGINT NOT NULL,
    message_id TEXT NOT NULL,
    recipient TEXT NOT NULL,
    scheduled SMALLINT NOT NULL,
    begin_time BIGINT NOT NULL,
    due_time BIGINT NOT NULL,
    expire_time BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (instance, message_id)
);

CREATE INDEX send_recipient ON send (instance, recipient, due_time, number);

CREATE INDEX send_due ON send (instance, due_time, number);

CREATE INDEX send_begin ON send (instance, begin_time);

CREATE INDEX send_expire ON send (instance, expire_time);
