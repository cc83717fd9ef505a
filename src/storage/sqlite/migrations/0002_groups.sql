-- What is known of an account's groups. `member` is 1 while the account is in one; `body` is an encoded
-- `wagate.v1.Group`.
CREATE TABLE group_chat (
    instance BIGINT NOT NULL,
    jid TEXT NOT NULL,
    member SMALLINT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (instance, jid)
);

CREATE INDEX group_chat_member ON group_chat (instance, jid) WHERE member = 1;

-- One row once all groups of the account are known.
CREATE TABLE group_sync (
    instance BIGINT PRIMARY KEY
);

-- What a request was answered, where that is kept; NULL until it is, and for those that made a message
-- or an instance.
ALTER TABLE request ADD COLUMN answer BLOB;

-- How far each participant of a group has come with a message: what the message's own status, the highest
-- of them, can't tell.
CREATE TABLE message_receipt (
    instance BIGINT NOT NULL,
    message_id TEXT NOT NULL,
    chat TEXT NOT NULL,
    party TEXT NOT NULL,
    status INTEGER NOT NULL,
    PRIMARY KEY (instance, message_id, chat, party)
);
