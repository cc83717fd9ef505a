-- Messages get a number that stays: pages go by it, and the index of their words points to it. `target` is the
-- id of the message that one does something to; `listed` is 0 for those that only do that. `words` is what can
-- be searched for.
CREATE TABLE message_numbered (
    number INTEGER PRIMARY KEY,
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
    target TEXT NOT NULL DEFAULT '',
    listed SMALLINT NOT NULL DEFAULT 1,
    words TEXT NOT NULL DEFAULT '',
    UNIQUE (instance, message_id, chat, sender)
);

INSERT INTO message_numbered (
    instance, message_id, chat, sender, from_me, outbound, time, status, previous_status, status_reason, body, raw
)
SELECT
    instance, message_id, chat, sender, from_me, outbound, time, status, previous_status, status_reason, body, raw
FROM message ORDER BY time;

DROP TABLE message;

ALTER TABLE message_numbered RENAME TO message;

CREATE INDEX message_outbound ON message (instance, status, time) WHERE outbound = 1;

CREATE INDEX message_chat ON message (instance, chat, time, number);

CREATE INDEX message_target ON message (instance, target) WHERE target <> '';

CREATE VIRTUAL TABLE message_words USING fts5 (
    words, content = 'message', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
);

CREATE TRIGGER message_words_come AFTER INSERT ON message WHEN new.words <> '' BEGIN
    INSERT INTO message_words (rowid, words) VALUES (new.number, new.words);
END;

CREATE TRIGGER message_words_go AFTER DELETE ON message WHEN old.words <> '' BEGIN
    INSERT INTO message_words (message_words, rowid, words) VALUES ('delete', old.number, old.words);
END;

CREATE TRIGGER message_words_leave AFTER UPDATE OF words ON message WHEN old.words <> '' BEGIN
    INSERT INTO message_words (message_words, rowid, words) VALUES ('delete', old.number, old.words);
END;

CREATE TRIGGER message_words_return AFTER UPDATE OF words ON message WHEN new.words <> '' BEGIN
    INSERT INTO message_words (rowid, words) VALUES (new.number, new.words);
END;
