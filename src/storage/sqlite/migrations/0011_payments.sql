-- Requests for money. The key is that of the message, which may be deleted meanwhile. `state` is a number of
-- `wagate.v1.PaymentState`; that a request has expired is in `expire_time` alone. `body` is an encoded
-- `wagate.v1.Payment`.
CREATE TABLE payment (
    number INTEGER PRIMARY KEY,
    instance BIGINT NOT NULL,
    message_id TEXT NOT NULL,
    chat TEXT NOT NULL,
    sender TEXT NOT NULL,
    time BIGINT NOT NULL,
    state INTEGER NOT NULL,
    expire_time BIGINT,
    body BLOB NOT NULL,
    UNIQUE (instance, message_id, chat, sender)
);

CREATE INDEX payment_time ON payment (instance, time, number);
